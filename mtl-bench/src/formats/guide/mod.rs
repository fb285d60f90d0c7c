//! Instructional videos with guidelines: *GUIDE: A Guideline-Guided Dataset for Instructional Video Comprehension*, IJCAI
//! 2024, arXiv 2406.18227.
//!
//! Videos of one task follow a common guideline; every video has specific steps with times, captions and the guideline step
//! they belong to. Three sub-tasks are scored: captions of given steps ([`caption_scores`]) or of steps that must be found
//! ([`dense_scores`]), the guideline from all videos of a task ([`guideline_score`]), and captions given the guideline
//! ([`caption_prompt`] with [`Guidance`]). The released field names were not at hand; the schema is this crate's.
mod annotation;
mod assignment;
mod caption;
mod guideline;

pub use annotation::{GuidelineStep, Step, Task, Video, read, split_by_task};
pub use assignment::best_assignment;
pub use caption::{
    CaptionScores, DenseScores, Guidance, Predicted, caption_prompt, caption_scores, coco_tokens,
    dense_scores, temporal_iou,
};
pub use guideline::{GuidelineScore, guideline_score};
