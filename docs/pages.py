"""A hook for MkDocs: every page keeps its place in the repository.

A link from README.md into docs/, or from docs/ into specgan_tf/, is then the same on
GitHub and in the site.
"""

import glob
import os

from mkdocs.structure.files import File

PAGES = [
    "*.md",
    "docs/**/*.*",
    "examples/*.ipynb",
    "specgan_tf/data/models/*/*.md",
]


def on_files(files, config):
    root = os.path.dirname(config.config_file_path)
    for file in [f for f in files if f.src_dir == config.docs_dir]:
        files.remove(file)
    for pattern in PAGES:
        for path in sorted(glob.glob(pattern, root_dir=root, recursive=True)):
            files.append(File(path, root, config.site_dir, config.use_directory_urls))
    return files
