"""Sending a bundle to the hub; nothing else of the project sends anything there."""

from httpx import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from avar_eval.errors import AvarError
from avar_eval.leaderboard.publishing.bundle import Bundle


class PushError(AvarError):
    """The hub did not take something, and what to do.

    What to do: Do what the message says (a token, a name, a network) and push again: what is there is not sent twice.
    """


def hub_user(api: HfApi) -> str:
    """The name that the user is logged in by. Raises PushError without a login."""
    try:
        return str(api.whoami()["name"])
    except LocalTokenNotFoundError as error:
        raise PushError("--push needs a login: `hf auth login`, or a token in HF_TOKEN") from error
    except (HTTPError, HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise PushError(f"the hub does not say who is logged in ({_first_line(error)}); nothing was sent") from error


def push(bundle: Bundle, api: HfApi) -> list[str]:
    """Send each part to its repository, which is made if there is none; returns the addresses.

    A model's repository that is there already gets a pull request: its card is somebody's. Raises PushError.
    """
    sent: list[str] = []
    for part, (kind, name) in bundle.repositories.items():
        try:
            existed = kind == "model" and api.repo_exists(name, repo_type=kind)
            if not existed:
                api.create_repo(name, repo_type=kind, exist_ok=True, space_sdk="static" if kind == "space" else None)
            done = api.upload_folder(
                repo_id=name,
                repo_type=kind,
                folder_path=bundle.folder / part,
                commit_message="Results of avar-eval",
                create_pr=existed,
            )
        except (HTTPError, HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
            already = f"; sent before it: {', '.join(sent)}" if sent else "; nothing was sent"
            raise PushError(f"the hub did not take {part} as {name}: {_first_line(error)}{already}") from error
        sent.append(str(done.pr_url or done))
    return sent


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason'}"
