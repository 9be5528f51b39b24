"""A profile's plan, what of it must be run, and running it: papermill on dask."""
