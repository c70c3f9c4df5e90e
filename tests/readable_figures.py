"""Whether a figure can be read in print."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from avar_eval.figures.file import DPI
from avar_eval.figures.style import COLUMN, INK, PAGE, TEXT


def check_readable(figure: Figure, title: bool) -> None:
    """No text is below 6 points at its printed width, none is cut off, and there is a title only where it is asked."""
    figure.set_dpi(DPI)
    FigureCanvasAgg(figure).draw()
    width = figure.get_size_inches()[0]
    assert width in (COLUMN, PAGE)
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert min(text.get_fontsize() for text in shown) >= 6
    drawn = figure.get_tightbbox()
    assert drawn.x0 > -0.02, "cut off at the left"
    assert drawn.x1 < width + 0.02, "cut off at the right"
    assert drawn.y0 > -0.02, "cut off below"
    assert drawn.y1 < figure.get_size_inches()[1] + 0.02, "cut off above"
    assert any(text.get_fontsize() > TEXT and text.get_color() == INK for text in shown) == title
    legends = [legend.get_window_extent() for legend in figure.legends]
    assert not any(legend.overlaps(axes.get_tightbbox()) for legend in legends for axes in figure.axes)
