"""Physics and statistics: arrays in, arrays out; no files, no MPI, no logging."""
