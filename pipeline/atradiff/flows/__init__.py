"""Online runs: put together from the offline stages' results, kept in a run folder, carried out by Prefect."""

import os

# Prefect reads these when it is imported, which only modules below do: nobody's use of this program is reported anywhere.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
