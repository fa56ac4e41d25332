"""Viewers that follow another viewer until they move themselves."""

from __future__ import annotations

from infra.history.index import Cut


class Follower:
    """A viewer who can follow, and be followed."""

    def __init__(self) -> None:
        self._followers: set[Follower] = set()
        self._leader: Follower | None = None

    def led(self, state: str, cut: Cut | None) -> None:
        """The viewer that this one follows is at a cut; None: live."""
        raise NotImplementedError

    def left(self) -> None:
        """The viewer that this one follows is gone."""
        raise NotImplementedError

    def follow(self, leader: Follower) -> None:
        """Go where another goes."""
        self.leave()
        self._leader = leader
        leader._followers.add(self)

    def leave(self) -> None:
        """Follow nobody."""
        if self._leader is not None:
            self._leader._followers.discard(self)
            self._leader = None

    def lead(self, state: str, cut: Cut | None) -> None:
        """Take along who follows."""
        for follower in self._followers:
            follower.led(state, cut)

    def dismiss(self) -> None:
        """Nobody can follow any longer."""
        for follower in list(self._followers):
            follower.leave()
            follower.left()
