"""Files on disk: the run directory, checkpoints and Caffe's formats."""
