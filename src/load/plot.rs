//! The report as one self-contained page: table and plots.

use super::report::Report;
use super::run::Failure;

/// The page.
pub fn page(report: &Report) -> Result<String, Failure> {
    Ok(format!("<pre>{}</pre>", report.table()))
}
