"""Where the roles become Ray actors: cluster, controller, command line, report."""
