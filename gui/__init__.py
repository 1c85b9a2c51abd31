"""The console, the REST API and the metrics. They read and change the program through `pipeline.views`."""
