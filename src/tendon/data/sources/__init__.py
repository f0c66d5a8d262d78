"""Readers of foreign formats, one file per format: ``open_source(uri)``."""

from tendon.data.sources.source import EpisodeInfo, Source, SourceInfo, open_source

__all__ = ["EpisodeInfo", "Source", "SourceInfo", "open_source"]
