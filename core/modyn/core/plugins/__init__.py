"""The kinds of plug-ins: what each must do, and the registry that knows them by name.

The plug-ins themselves live with the service that runs them; only their interfaces are here, so that the
configuration schema can be built without touching a service.
"""
