"""Source and launch buttons that follow from the git remote; where there is none, none.

Nothing about the remote is written down in the book: a fork's pages link to the fork.
"""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

PROVIDERS = ("github", "gitlab", "bitbucket")
PUBLIC = {f"{name}.{end}": name for name, end in zip(PROVIDERS, ("com", "com", "org"), strict=True)}


class Remote(NamedTuple):
    """Where the book's source can be seen: no credentials, no port, no `.git`."""

    url: str  # https://github.com/owner/name
    provider: str  # github, gitlab or bitbucket
    public: bool  # on the provider's own site, where Binder and Colab can reach it


def parse(url: str) -> Remote | None:
    """The page that a remote's URL belongs to, or None where it names no known kind of host.

    >>> parse("git@github.com:owner/name.git")
    Remote(url='https://github.com/owner/name', provider='github', public=True)
    """
    url = url.strip()
    if "://" not in url:  # git@host:owner/name, or a path
        match = re.fullmatch(r"(?:[^@/:\s]+@)?([\w.-]+\.[\w-]+):(?!/)(\S+)", url)
        if not match:
            return None
        host, path = match.groups()
    else:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http", "ssh", "git", "git+ssh"):
            return None
        host, path = parts.hostname or "", parts.path
    host = host.lower().removeprefix("www.").removeprefix("ssh.")
    path = path.strip("/").removesuffix(".git").strip("/")
    provider = next((name for name in PROVIDERS if name in host.split(".")), None)
    if provider is None or not re.fullmatch(r"[\w.~-]+(/[\w.~-]+)+", path):
        return None
    return Remote(f"https://{host}/{path}", provider, host in PUBLIC)


def git(folder: Path, *args: str) -> str:
    """What git answers, stripped; nothing where there is no git, no repository or no answer."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def find(folder: Path) -> tuple[Remote, str] | None:
    """The remote of the repository whose root is `folder`, with the branch to link to."""
    top = git(folder, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != folder.resolve():
        return None  # no repository, or an unpacked copy inside somebody else's
    remote = parse(git(folder, "remote", "get-url", "origin"))
    if remote is None:
        return None
    head = git(folder, "symbolic-ref", "--short", "refs/remotes/origin/HEAD")
    branch = head.removeprefix("origin/") or git(folder, "branch", "--show-current") or "main"
    return remote, branch


def theme_options(remote: Remote, branch: str) -> dict:
    """The theme's settings for the buttons that work with this remote."""
    options = {
        "repository_url": remote.url,
        "repository_provider": remote.provider,
        "repository_branch": branch,
        "path_to_docs": "",
        "use_repository_button": True,
        "use_source_button": True,
        "use_issues_button": remote.provider != "bitbucket",
    }
    launch = {"notebook_interface": "jupyterlab", "binderhub_url": "https://mybinder.org"}
    # No Colab: it opens the notebook alone, and the chapters import the helpers beside them.
    return options | {"launch_buttons": launch if remote.public else {}}


def add_buttons(app, config) -> None:
    """Before the theme reads its options: set those for the buttons."""
    found = find(Path(app.srcdir))
    if found:
        config.html_theme_options = {**config.html_theme_options, **theme_options(*found)}


def setup(app) -> dict[str, bool]:
    app.connect("config-inited", add_buttons, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
