"""Files from a model hub, through huggingface_hub (which honours HF_ENDPOINT, HF_TOKEN and proxies)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pg_steadytext.errors import ModelFailed

if TYPE_CHECKING:
    from pg_steadytext.engines.sources import Progress

POLL_SECONDS = 0.2


def download(repo: str, filename: str, folder: Path, name: str, progress: Progress) -> tuple[Path, str | None]:
    """Fetch a file of a hub repository into `folder`; returns its path and the SHA-256 the hub states, if it does.

    Raises ModelFailed when the hub cannot be reached or has no such file.
    """
    from httpx2 import HTTPError
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        metadata = get_hf_file_metadata(hf_hub_url(repo, filename))
        with _Watch(folder, name, metadata.size, progress):
            found = Path(hf_hub_download(repo, filename, local_dir=folder))
    except (HTTPError, HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelFailed(
            f'"{filename}" of "{repo}" could not be fetched: {error}',
            hint="check the network; HF_ENDPOINT names another hub, HF_TOKEN opens private repositories",
        ) from error
    etag = metadata.etag or ""
    return found, etag if len(etag) == 64 and all(c in "0123456789abcdef" for c in etag) else None


class _Watch:
    """Reports a download's progress by the size of what has arrived."""

    def __init__(self, folder: Path, name: str, total: int | None, progress: Progress) -> None:
        self._folder = folder
        self._name = name
        self._total = total
        self._progress = progress
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._report(sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file()))

    def _report(self, done: int) -> None:
        self._progress(self._name, done, self._total)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()
        if raised[0] is None:
            self._report(self._total or 0)
