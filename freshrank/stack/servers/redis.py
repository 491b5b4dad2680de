"""Redis, Feast's online store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from features.atomic import write_text
from features.errors import NotReadyError, UsageError
from freshrank.stack import addresses
from freshrank.stack.server import NotYet, Program, Server, setup_folder

if TYPE_CHECKING:
    from freshrank.settings import Settings


_PROBE_KEY = "freshrank:probe"


class Redis(Server):
    """One Redis that appends every write to a log before it answers, so that a kill loses nothing acknowledged."""

    name = "redis"
    can_be_external = True

    def is_external(self, settings: Settings) -> bool:
        """Whether `redis.url` names one."""
        return addresses.redis_is_external(settings)

    def address(self, settings: Settings) -> str:
        """host:port."""
        return addresses.redis_address(settings)

    def ports(self, settings: Settings) -> tuple[int, ...]:
        """One."""
        return (addresses.port(settings, addresses.REDIS),)

    def programs(self, settings: Settings) -> tuple[Program, ...]:
        """One process."""
        binary = setup_folder() / "bin" / "redis-server"
        return (Program("redis", (str(binary), str(settings.layout.run / "redis.conf"))),)

    def prepare(self, settings: Settings) -> None:
        """Write its configuration."""
        if not (setup_folder() / "bin" / "redis-server").exists():
            raise NotReadyError("Redis is missing", remedy="run `make setup`")
        folder = settings.layout.root / "redis"
        folder.mkdir(parents=True, exist_ok=True)
        password = settings.redis.password.get_secret_value()
        lines = [
            f"bind {addresses.HOST}",
            f"port {self.ports(settings)[0]}",
            "protected-mode yes",
            "daemonize no",
            "set-proc-title no",  # it would overwrite the environment by which it is found
            f'dir "{_quoted(str(folder))}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "aof-use-rdb-preamble yes",
            *([f'requirepass "{_quoted(password)}"'] if password else []),
        ]
        path = settings.layout.run / "redis.conf"
        write_text(path, "\n".join(lines) + "\n")
        path.chmod(0o600)

    def look(self, settings: Settings) -> str:
        """Ask for a key, and whether it can still write what it is given."""
        with _client(self.address(settings), settings) as client:
            client.get(_PROBE_KEY)
            if not self.is_external(settings) and client.info("persistence")["aof_last_write_status"] != "ok":
                raise NotYet("it cannot write its log: is the disk full?")
        return ""

    def probe(self, settings: Settings) -> None:
        """Write a key and read it back."""
        with _client(self.address(settings), settings) as client:
            client.set(_PROBE_KEY, "1", ex=60)
            if client.get(_PROBE_KEY) != b"1":
                raise NotYet("a key written is not read back")


@contextlib.contextmanager
def _client(address: str, settings: Settings) -> Iterator[Any]:
    """A client, closed at the end of the block; what it meets becomes `NotYet`."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    host, _, port = address.rpartition(":")
    password = settings.redis.password.get_secret_value() or None
    once = Retry(NoBackoff(), 0)  # a caller asks again, or wants to know now
    client = redis.Redis(host=host.strip("[]"), port=int(port), password=password, socket_timeout=2, retry=once)
    try:
        yield client
    except redis.AuthenticationError as error:
        raise UsageError(
            f"Redis refuses us ({error})", field="redis.password", value="***", remedy="set FRESHRANK_REDIS__PASSWORD"
        ) from error
    except redis.RedisError as error:
        raise NotYet(f"{error}") from error
    finally:
        client.close()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
