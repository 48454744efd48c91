"""Temperature maps of galaxy clusters from Chandra ACIS data, as an MPI-parallel batch program."""

__version__ = "0.1.0"
