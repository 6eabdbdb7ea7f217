//! Plots in SVG, with logarithmic axes.

use std::fmt;

/// A line of a plot.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Where it goes; all positive.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Line {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            points: Vec::new(),
        }
    }
}

/// A plot.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) along: String,
    pub(crate) up: String,
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
/// Beside the plot, for what is written there.
const MARGIN: f64 = 60.0;
const COLOURS: [&str; 6] = [
    "#888888", "#0072b2", "#bbbbbb", "#d55e00", "#009e73", "#cc79a7",
];

/// An axis: whole decades from the least to the most.
struct Axis {
    first: f64,
    last: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let first = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let last = values.fold(0.0, f64::max).log10().ceil().max(first + 1.0);
        Self {
            first,
            last,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.log10() - self.first) / (self.last - self.first);
        self.from + part * (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        let (first, last) = (self.first, self.last);
        (0..32)
            .map(move |more| first + f64::from(more))
            .take_while(move |ten| *ten <= last)
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = self.lines.iter().flat_map(|line| line.points.iter());
        let x = Axis::new(points.clone().map(|point| point.0), MARGIN, WIDTH - 20.0);
        let y = Axis::new(points.map(|point| point.1), HEIGHT - MARGIN, MARGIN);
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"#
        )?;
        writeln!(
            f,
            r#"<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>"#
        )?;
        let middle = WIDTH / 2.0;
        text(f, middle, 20.0, "middle", &self.title)?;
        text(f, middle, HEIGHT - 15.0, "middle", &self.along)?;
        text(f, 10.0, MARGIN - 15.0, "start", &self.up)?;
        for ten in x.decades() {
            let at = x.place(10_f64.powf(ten));
            rule(f, (at, y.from), (at, y.to))?;
            text(f, at, y.from + 16.0, "middle", &decade(ten))?;
        }
        for ten in y.decades() {
            let at = y.place(10_f64.powf(ten));
            rule(f, (x.from, at), (x.to, at))?;
            text(f, x.from - 6.0, at + 4.0, "end", &decade(ten))?;
        }
        for (number, (line, colour)) in self.lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let place = |point: &(f64, f64)| (x.place(point.0), y.place(point.1));
            let path: Vec<_> = line.points.iter().map(place).collect();
            let words = path.iter().map(|(x, y)| format!("{x:.1},{y:.1}"));
            let words = words.collect::<Vec<_>>().join(" ");
            writeln!(
                f,
                r#"<polyline points="{words}" fill="none" stroke="{colour}" stroke-width="2"/>"#
            )?;
            for (x, y) in &path {
                writeln!(
                    f,
                    r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#
                )?;
            }
            let down = MARGIN + 16.0 * (number as f64 + 1.0);
            let (left, at) = (x.from + 10.0, down - 4.0);
            writeln!(
                f,
                r#"<path d="M{left} {at}h20" stroke="{colour}" stroke-width="2"/>"#
            )?;
            text(f, left + 26.0, down, "start", &line.name)?;
        }
        writeln!(f, "</svg>")
    }
}

fn text(f: &mut fmt::Formatter<'_>, x: f64, y: f64, anchor: &str, words: &str) -> fmt::Result {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(
        f,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{words}</text>"#
    )
}

fn rule(f: &mut fmt::Formatter<'_>, from: (f64, f64), to: (f64, f64)) -> fmt::Result {
    let ((x, y), (to_x, to_y)) = (from, to);
    writeln!(
        f,
        r##"<line x1="{x:.1}" y1="{y:.1}" x2="{to_x:.1}" y2="{to_y:.1}" stroke="#dddddd"/>"##
    )
}

/// A power of ten.
fn decade(ten: f64) -> String {
    match 10_f64.powf(ten) {
        value @ 1e6.. => format!("{}M", value / 1e6),
        value @ 1e3.. => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}
