"""The stages of the chain, one a file. `stage` has their two forms; `pipeline.machine` puts them in order."""
