"""Plots of the report, as HTML fragments; the plotting library's script is put into the page once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from features.encoded import JsonObject

COLOURS = {
    "popularity": "#c98b2b",
    "uniform": "#8a8f98",
    "oracle": "#4a5fa5",
    "incumbent": "#7a4b94",
    "oracle, places unknown": "#9db0e0",
}
_SERIES = ("#1f6f5c", "#c98b2b", "#4a5fa5", "#b0483f", "#7a4b94", "#8a8f98")
_LAYOUT: JsonObject = {
    "template": "plotly_white",
    "height": 350,
    "margin": {"l": 60, "r": 20, "t": 46, "b": 60},
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "legend": {"orientation": "h", "y": -0.3},
    "title": {"font": {"size": 15}, "x": 0.01},
}


def bars(
    title: str,
    groups: Mapping[str, Mapping[str, float | None]],
    *,
    y: str,
    errors: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    **layout: object,
) -> str:
    """Grouped bars.

    Args:
        title: Title of the plot.
        groups: Series → label → value; a None draws no bar.
        y: Name and unit of the y axis.
        errors: Series → label → (low, high) of an interval, where there is one.
        layout: More of plotly's layout.

    Returns:
        An HTML fragment.
    """
    figure = go.Figure()
    for number, (series, values) in enumerate(groups.items()):
        labels, heights = list(values), list(values.values())
        bounds = (errors or {}).get(series)
        interval = None
        if bounds:
            pairs = [(bounds.get(label), values[label]) for label in labels]
            interval = {
                "type": "data",
                "symmetric": False,
                "array": [pair[1] - height if pair and height is not None else 0 for pair, height in pairs],
                "arrayminus": [height - pair[0] if pair and height is not None else 0 for pair, height in pairs],
            }
        colour = COLOURS.get(series, _SERIES[number % len(_SERIES)])
        figure.add_bar(name=series, x=labels, y=heights, error_y=interval, marker_color=colour)
    return _html(figure, title, yaxis_title=y, barmode="group", showlegend=len(groups) > 1, **layout)


def lines(
    title: str, series: Mapping[str, tuple[Sequence[object], Sequence[float]]], *, x: str, y: str, **layout: object
) -> str:
    """Lines through points.

    Args:
        title: Title of the plot.
        series: Name → (x values, y values).
        x: Name and unit of the x axis.
        y: Name and unit of the y axis.
        layout: More of plotly's layout.

    Returns:
        An HTML fragment.
    """
    figure = go.Figure()
    for number, (name, (xs, ys)) in enumerate(series.items()):
        colour = COLOURS.get(name, _SERIES[number % len(_SERIES)])
        figure.add_scatter(name=name, x=list(xs), y=list(ys), mode="lines+markers", line_color=colour, marker_size=5)
    return _html(figure, title, xaxis_title=x, yaxis_title=y, showlegend=len(series) > 1, **layout)


def calibration(title: str, curves: Mapping[str, Sequence[tuple[float, float, int]]]) -> str:
    """Predicted against observed rates, with the diagonal.

    Args:
        title: Title of the plot.
        curves: Model → (mean prediction, observed rate, candidates) of each bin.

    Returns:
        An HTML fragment.
    """
    figure = go.Figure()
    top = max((max(point[0], point[1]) for points in curves.values() for point in points), default=1.0)
    figure.add_scatter(x=[0, top], y=[0, top], mode="lines", line={"dash": "dot", "color": "#999"}, name="calibrated")
    for number, (name, points) in enumerate(curves.items()):
        figure.add_scatter(
            x=[p[0] for p in points],
            y=[p[1] for p in points],
            mode="lines+markers",
            name=name,
            line_color=COLOURS.get(name, _SERIES[number % len(_SERIES)]),
            text=[f"{p[2]} candidates" for p in points],
        )
    return _html(figure, title, xaxis_title="mean prediction", yaxis_title="observed rate")


def heat_map(title: str, values: Sequence[Sequence[float]], labels: Sequence[str]) -> str:
    """Similarity of image rows and text columns.

    Args:
        title: Title of the plot.
        values: Square matrix of cosines.
        labels: Names of the items.

    Returns:
        An HTML fragment.
    """
    short = [f"{number + 1}. {label[:18]}" for number, label in enumerate(labels)]
    figure = go.Figure(
        go.Heatmap(z=[list(row) for row in values], x=short, y=short, colorscale="Viridis", zmin=-1, zmax=1)
    )
    figure.update_yaxes(autorange="reversed")
    return _html(figure, title, xaxis_title="text of", yaxis_title="photo of", height=430)


def histogram(title: str, values: Mapping[str, Sequence[float]], *, x: str, log_x: bool = False) -> str:
    """Distributions as densities.

    Args:
        title: Title of the plot.
        values: Series → values.
        x: Name and unit of the x axis.
        log_x: Bin and show the logarithm to base ten.

    Returns:
        An HTML fragment.
    """
    import math

    figure = go.Figure()
    for number, (name, data) in enumerate(values.items()):
        shown = [math.log10(v) for v in data if v > 0] if log_x else list(data)
        colour = COLOURS.get(name, _SERIES[number % len(_SERIES)])
        figure.add_histogram(x=shown, name=name, histnorm="percent", nbinsx=40, marker_color=colour, opacity=0.75)
    axis = {"title": x}
    if log_x:
        axis |= {"tickvals": list(range(6)), "ticktext": ["1", "10", "100", "1000", "10k", "100k"]}  # type: ignore[dict-item]
    return _html(figure, title, xaxis=axis, yaxis_title="percent", barmode="overlay", showlegend=len(values) > 1)


def script() -> str:
    """The plotting library itself, so that the page needs no network."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _html(figure: go.Figure, title: str, **layout: object) -> str:
    figure.update_layout(**{**_LAYOUT, "title": {"text": title, **_LAYOUT["title"]}, **layout})
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False}))
