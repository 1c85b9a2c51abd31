"""The views: what the console, the API and the commands may know and do. The only door into the program."""
