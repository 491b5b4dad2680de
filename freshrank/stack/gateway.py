"""The gateway's process: `python -m freshrank.stack.gateway`, run in the gateway's own environment.

It stands here because it composes settings, and `serving/` does not know those of other rooms.
"""

from __future__ import annotations


def main() -> None:
    """Serve the gateway until told to stop."""
    import growthbook.core  # noqa: F401 - a request with an experiment would pay for it, or miss it
    import uvicorn

    from freshrank import settings as all_settings
    from freshrank.stack import addresses
    from serving.gateway.app import GatewayConfig, create_app

    settings = addresses.resolve(all_settings.load())
    app = create_app(
        GatewayConfig(settings.layout, settings.gateway, settings.kafka, settings.redis, settings.triton),
    )
    uvicorn.run(
        app,
        host=settings.gateway.host,
        port=addresses.port(settings, addresses.GATEWAY),
        log_level="info",
        access_log=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
