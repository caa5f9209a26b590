"""A trial in trackio (https://github.com/gradio-app/trackio). The only `import trackio`.

Runs lie in one local file, of which `TRACKIO_DIR=RUN/trackio trackio show` draws a dashboard;
TRACKIO_SPACE_ID or TRACKIO_SERVER_URL in the environment send them elsewhere instead.
"""

import contextvars
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.gridfile.keys.trackers import Trackio
from sweep.tracking.trackers import curves

if TYPE_CHECKING:
    from sweep.tracking.trackers import Ended


class TrackioRun:
    """A trackio run, which replaces an earlier one of the same name and grid."""

    def __init__(
        self, settings: Trackio, run_dir: Path, grid: str, name: str, config: dict[str, Any]
    ):
        os.environ.setdefault("TRACKIO_DIR", str(run_dir / "trackio"))  # read on import
        import trackio

        project = settings.project
        for earlier in trackio.Api().runs(project) if _begun(project) else ():
            if earlier.name == name and (earlier.config or {}).get("_Group") == grid:
                earlier.delete()
        # In a context of its own: trackio ends a run when the next one of the same context begins.
        self.run = contextvars.Context().run(
            trackio.init,
            project=project,
            name=name,
            group=grid,
            config=config,
            embed=False,
            auto_log_gpu=False,  # of this process, which trains nothing
            auto_log_cpu=False,
        )
        self._step = 0

    def log(self, row: dict[str, Any]) -> None:
        self._step = row["step"]
        self.run.log(curves(row), step=self._step)

    def close(self, ended: "Ended") -> None:
        if ended.figures["status"] != "interrupted":
            self.run.log(ended.figures, step=self._step)
        self.run.finish()


def _begun(project: str) -> bool:
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage.get_project_db_path(project).exists()
