"""A run's model on the Hugging Face hub."""

from __future__ import annotations

from tff_tx.core.errors import UserError, setting

_WHERE = setting("run.push_to_hub")


def check(name: str) -> None:
    """Checks the name of a repository, and that there is a token to write with, before anything is trained.

    Raises:
      UserError: If one of them cannot do.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        huggingface_hub.utils.validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"{_WHERE}={name}: must be OWNER/NAME or NAME of a repository ({error}).") from error
    if huggingface_hub.get_token() is None:
        raise UserError(f"{_WHERE}={name}: there is no token; run `huggingface-cli login`, or set HF_TOKEN.")


def push(directory: str, name: str) -> str:
    """Uploads a model's directory to a repository, which is made, and then private, if there is none; returns its URL.

    Raises:
      UserError: If the hub cannot be reached or refuses.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    api = huggingface_hub.HfApi()
    try:
        url = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=directory, commit_message="A model trained with tff_tx")
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{_WHERE}={name}: the model is in {directory} and was not uploaded ({reason}); the same command tries "
            "again."
        ) from error
    return str(url)
