"""The application with tidings and a page: uvicorn page:app

The page is built once: cd page && npm install && npm run build
"""

from __future__ import annotations

from pathlib import Path

from fastapi.staticfiles import StaticFiles
from live import app

app.mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))
