"""DL1 files of lstchain, the analysis software of the LST."""

from .source import LSTChainDL1EventSource

__all__ = ["LSTChainDL1EventSource"]
