"""The folder door."""

from fieldpost.roles.watcher.watcher import Watcher as Watcher
