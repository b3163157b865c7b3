"""The HTTP listener: FluenzR's events, and whether the process is alive. One address for the daemon and `syncd webhooks serve`."""
