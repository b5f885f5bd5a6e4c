"""The settings of the demo, with sessions that are checked as often as the environment says."""

from __future__ import annotations

import os

from demo_project.settings import *  # noqa: F403
from demo_project.settings import WSRT as DEMO

WSRT = {**DEMO, "REVALIDATE": float(os.environ.get("WSRT_TEST_REVALIDATE", 0)) or None}
