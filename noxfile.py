"""Checks, each in an environment of its own: nox -s tests | lint | types | e2e."""

import nox

nox.options.sessions = ["lint", "types", "tests"]
THRIFTY = {"OMP_WAIT_POLICY": "PASSIVE"}


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments go to pytest."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs, env=THRIFTY)


@nox.session
def e2e(session: nox.Session) -> None:
    """Run every subcommand one after the other, the slow tests too."""
    session.install("-e", ".[test]")
    session.run("pytest", "tests/e2e", "-m", "slow or not slow", *session.posargs, env=THRIFTY)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, layers and that no secret is tracked."""
    session.install("-e", ".[test]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")
    session.run("pytest", "tests/test_repository.py")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types."""
    session.install("-e", ".[dev]")
    session.run("mypy")
