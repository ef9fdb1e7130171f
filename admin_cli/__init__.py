"""The command line of hpadmin: click only, one file a command group."""
