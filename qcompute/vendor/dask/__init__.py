"""What the adapter `dask` is made of; who runs where is in docs/adr/0015-dask-behind-a-driver-process.md.

The daemon's process uses `settings`, `spool`, `programs` and `link`. `driver`, `clusters`, `pilots`, `slurm` and
`ssh` run in the driver, the one process that imports Dask. `simulation` and `ending` run on the workers.
"""
