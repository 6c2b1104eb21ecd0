"""The release, or the commit, that this package was built from: git tells it at the build."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("disback_plugin")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
