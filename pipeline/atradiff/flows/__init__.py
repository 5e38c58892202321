"""Online runs: put together from the offline stages' results, kept in a run folder, carried out by Prefect."""
