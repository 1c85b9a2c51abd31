"""DNS: where mail goes (`resolver`), and the name servers that are asked (`name_servers`)."""
