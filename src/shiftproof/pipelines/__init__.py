"""Complete pipelines, from images to a result; each command of the command line runs one of them."""
