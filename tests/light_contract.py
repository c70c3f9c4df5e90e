"""A contract for import-linter: what a command line imports before it knows what is asked of it stays light."""

import ast
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from grimp import ImportGraph
from importlinter.application import output
from importlinter.domain import fields
from importlinter.domain.contract import Contract, ContractCheck
from importlinter.domain.helpers import module_expressions_to_modules


class LightContract(Contract):
    """No chain of imports outside of functions leads from one of `source_modules` to one of `heavy_packages`.

    import-linter's own contracts count imports within functions, which are made when they are needed.
    """

    type_name = "light"
    source_modules = fields.ListField(subfield=fields.ModuleExpressionField())
    heavy_packages = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Every chain that is too heavy; so that a name is never wrong unnoticed, all must be known to the graph."""
        sources = {module.name for module in module_expressions_to_modules(graph, self.source_modules)}
        problems = [f"{name} is imported nowhere" for name in {*sources, *self.heavy_packages} - graph.modules]
        for source in sorted(sources & graph.modules):
            problems += [
                f"{' -> '.join(chain)}: import it within the function that needs it"
                for chain in heavy_chains(graph, source, self.heavy_packages)
            ]
        return ContractCheck(kept=not problems, metadata={"problems": problems})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line a problem."""
        for problem in check.metadata["problems"]:
            output.print_error(problem)


def heavy_chains(graph: ImportGraph, source: str, heavy: Sequence[str]) -> Iterator[list[str]]:
    """The shortest chain to each heavy package that importing `source` imports."""
    chains = {source: [source]}
    waiting = [source]
    for module in waiting:
        if module in heavy:
            yield chains[module]
            continue
        for imported in imported_at_once(graph, module):
            if imported not in chains:
                chains[imported] = [*chains[module], imported]
                waiting.append(imported)


def imported_at_once(graph: ImportGraph, module: str) -> Iterator[str]:
    """The modules that importing `module` imports itself, its own package among them."""
    if "." in module:
        yield module.rpartition(".")[0]
    found = sorted(graph.find_modules_directly_imported_by(module))
    spec = find_spec(module) if found else None
    if spec is None or spec.origin is None:  # a package from elsewhere: the graph does not look into it
        return
    lines = set(lines_run_at_once(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))))
    for imported in found:
        details = graph.get_import_details(importer=module, imported=imported)
        if any(detail["line_number"] in lines for detail in details):
            yield imported


def lines_run_at_once(node: ast.AST) -> Iterator[int]:
    """The line numbers of all imports outside of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child.lineno
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from lines_run_at_once(child)
