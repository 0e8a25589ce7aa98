//! What a LogQL query says, before any of it is compiled or checked.

/// A whole query.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Selects lines.
    Log(LogExpr),
    /// Computes numbers.
    Sample(SampleExpr),
}

/// A stream selector and the pipeline behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct LogExpr {
    /// What the labels of a stream must satisfy, all of them.
    pub matchers: Vec<Matcher>,
    /// Stages in the order in which a line meets them.
    pub stages: Vec<Stage>,
}

/// How a text is compared with an expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends.
    Regex,
    /// `!~`, anchored at both ends.
    NotRegex,
}

/// `name="value"` and its kin.
#[derive(Clone, Debug, PartialEq)]
pub struct Matcher {
    /// Label name.
    pub name: String,
    /// Comparison.
    pub op: MatchOp,
    /// Text or regular expression.
    pub value: String,
}

/// One stage of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// `|= "a" or "b"`
    Line(LineFilter),
    /// `| json`, with `a="b.c"` only those.
    Json(Vec<Extraction>),
    /// `| logfmt`
    Logfmt {
        /// `--strict`: a malformed line is an error instead of being skipped over.
        strict: bool,
        /// `--keep-empty`: keys without a value are kept.
        keep_empty: bool,
        /// Only these when not empty.
        extractions: Vec<Extraction>,
    },
    /// `| regexp "(?P<a>…)"`
    Regexp(String),
    /// `| pattern "<a> <_>"`
    Pattern(String),
    /// `| unpack`
    Unpack,
    /// `| decolorize`
    Decolorize,
    /// `| line_format "{{.a}}"`
    LineFormat(String),
    /// `| label_format a=b, c="{{.d}}"`
    LabelFormat(Vec<LabelFormat>),
    /// `| a="b" and c > 5`
    Label(LabelFilter),
    /// `| drop a, b="c"`
    Drop(Vec<NameMatch>),
    /// `| keep a, b="c"`
    Keep(Vec<NameMatch>),
}

/// Which lines a line filter lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Regex,
    /// `!~`
    NotRegex,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

/// A line filter with its alternatives.
#[derive(Clone, Debug, PartialEq)]
pub struct LineFilter {
    /// Comparison, the same for all alternatives.
    pub op: LineOp,
    /// `"a" or "b"`; never empty.
    pub any: Vec<LineText>,
}

/// What a line filter looks for.
#[derive(Clone, Debug, PartialEq)]
pub enum LineText {
    /// A text, regular expression or pattern.
    Text(String),
    /// `ip("10.0.0.0/8")`
    Ip(String),
}

/// `label="expression"` of a parser.
#[derive(Clone, Debug, PartialEq)]
pub struct Extraction {
    /// The label to set.
    pub label: String,
    /// Where its value is.
    pub path: String,
}

/// One assignment of `label_format`.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelFormat {
    /// The label to set.
    pub target: String,
    /// Where its value comes from.
    pub source: FormatSource,
}

/// Where `label_format` takes a value from.
#[derive(Clone, Debug, PartialEq)]
pub enum FormatSource {
    /// Another label, which is renamed.
    Rename(String),
    /// A template.
    Template(String),
}

/// A name of `drop` or `keep`, perhaps only with certain values.
#[derive(Clone, Debug, PartialEq)]
pub struct NameMatch {
    /// Label name.
    pub name: String,
    /// The condition on its value.
    pub value: Option<(MatchOp, String)>,
}

/// A condition on labels.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelFilter {
    /// As text.
    Text(Matcher),
    /// As a number, duration or size.
    Value {
        /// Label name.
        name: String,
        /// Comparison.
        op: CompareOp,
        /// What to compare with.
        value: FilterValue,
    },
    /// `a=ip("10.0.0.0/8")`
    Ip {
        /// Label name.
        name: String,
        /// `!=` instead of `=`.
        negated: bool,
        /// Address, range or network.
        pattern: String,
    },
    /// Both; also written with a comma.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// Either.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

/// A comparison of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// `==` (in a label filter also `=`)
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
}

/// The right side of a numeric label filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FilterValue {
    /// A plain number.
    Number(f64),
    /// Nanoseconds.
    Duration(i64),
    /// Bytes.
    Bytes(u64),
}

/// An expression that computes numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleExpr {
    /// `rate({…}[5m])`
    Range(Box<RangeAgg>),
    /// `sum by (a) (…)`
    Vector(Box<VectorAgg>),
    /// `a / b`
    Binary(Box<Binary>),
    /// A number.
    Literal(f64),
    /// `vector(1)`
    Constant(f64),
    /// `label_replace(…)`
    LabelReplace(Box<LabelReplace>),
}

/// How lines in a window become a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOp {
    /// Lines a second; with unwrap, the sum of the values a second.
    Rate,
    /// Increase a second of an unwrapped counter.
    RateCounter,
    /// Number of lines.
    Count,
    /// Bytes of lines a second.
    BytesRate,
    /// Bytes of lines.
    Bytes,
    /// 1 where there is no line.
    Absent,
    /// Sum of values.
    Sum,
    /// Mean of values.
    Avg,
    /// Least value.
    Min,
    /// Greatest value.
    Max,
    /// Population standard deviation.
    Stddev,
    /// Population variance.
    Stdvar,
    /// Quantile with linear interpolation.
    Quantile,
    /// Earliest value.
    First,
    /// Latest value.
    Last,
}

/// A range aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeAgg {
    /// The aggregation.
    pub op: RangeOp,
    /// φ of a quantile.
    pub param: Option<f64>,
    /// The lines.
    pub log: LogExpr,
    /// The label whose value is the sample.
    pub unwrap: Option<Unwrap>,
    /// Length of the window in nanoseconds.
    pub range: i64,
    /// How far the window is shifted into the past, in nanoseconds.
    pub offset: i64,
    /// Labels of the result.
    pub grouping: Option<Grouping>,
}

/// `| unwrap duration(took) | __error__=""`
#[derive(Clone, Debug, PartialEq)]
pub struct Unwrap {
    /// The label whose value is the sample.
    pub label: String,
    /// How its text is read.
    pub conversion: Conversion,
    /// Filters behind it.
    pub filters: Vec<LabelFilter>,
}

/// How an unwrapped text becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// A plain number.
    Number,
    /// A duration, in seconds (`duration()` and `duration_seconds()` are the same).
    Duration,
    /// A duration, written `duration_seconds()`.
    DurationSeconds,
    /// A size, in bytes.
    Bytes,
}

/// `by (a, b)` or `without (a, b)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    /// `without`.
    pub without: bool,
    /// Label names.
    pub labels: Vec<String>,
}

/// How series become fewer series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorOp {
    /// Sum.
    Sum,
    /// Mean.
    Avg,
    /// Least.
    Min,
    /// Greatest.
    Max,
    /// Number of series.
    Count,
    /// Population standard deviation.
    Stddev,
    /// Population variance.
    Stdvar,
    /// The k greatest.
    Topk,
    /// The k least.
    Bottomk,
    /// In rising order.
    Sort,
    /// In falling order.
    SortDesc,
}

/// A vector aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorAgg {
    /// The aggregation.
    pub op: VectorOp,
    /// k of `topk` and `bottomk`.
    pub param: Option<usize>,
    /// What is aggregated.
    pub inner: SampleExpr,
    /// Labels of the result.
    pub grouping: Option<Grouping>,
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `==` and the like.
    Compare(CompareOp),
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

impl BinaryOp {
    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// Which side of a match may have many series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// One to one.
    One,
    /// `group_left`: many on the left.
    Left,
    /// `group_right`: many on the right.
    Right,
}

/// A binary operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// Operator.
    pub op: BinaryOp,
    /// Left side.
    pub left: SampleExpr,
    /// Right side.
    pub right: SampleExpr,
    /// Comparison gives 0 or 1 instead of filtering.
    pub bool_result: bool,
    /// `on (…)` is `by`, `ignoring (…)` is `without`.
    pub matching: Option<Grouping>,
    /// Cardinality.
    pub card: Card,
    /// Labels that a `group_` modifier copies from the one side.
    pub include: Vec<String>,
}

/// `label_replace(inner, "target", "replacement", "source", "regex")`
#[derive(Clone, Debug, PartialEq)]
pub struct LabelReplace {
    /// What is relabelled.
    pub inner: SampleExpr,
    /// The label to set.
    pub target: String,
    /// Its value, with `$1` and the like.
    pub replacement: String,
    /// The label that is matched.
    pub source: String,
    /// Anchored regular expression.
    pub regex: String,
}
