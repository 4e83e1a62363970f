"""The commands of ``modyn-client``, one module per group."""
