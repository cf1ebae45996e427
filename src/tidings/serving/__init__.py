"""Serving an app with uvicorn: by one process, by one that is started anew, or by several."""

from tidings.serving.running import run, run_as_worker, run_reloading, run_target, run_workers
from tidings.serving.settings import Settings

__all__ = ["Settings", "run", "run_as_worker", "run_reloading", "run_target", "run_workers"]
