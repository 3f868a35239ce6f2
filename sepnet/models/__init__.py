"""Named systems built on the library: the problem gallery (`sepnet.models.vsna`)."""
