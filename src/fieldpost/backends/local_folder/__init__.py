"""The folder door's storage in a local directory, also one that a sync client keeps in step with a cloud."""

from fieldpost.backends.local_folder.folders import LocalFolders as LocalFolders
