//! Grades of texts that combine skills: Yu et al., *SKILL-MIX*, ICLR 2024, arXiv 2310.17567; Zhao et al., *Can Models
//! Learn Skill Composition from Examples?*, NeurIPS 2024, arXiv 2409.19808.
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The points of one text: one per skill, and three more.
///
/// ```
/// use mtl_bench::metrics::SkillGrade;
///
/// let grade = SkillGrade { skills: vec![true, false], topic: true, coherent: true, length: true };
/// assert_eq!((grade.points(), grade.full_marks(), grade.skill_fraction()), (4, false, 0.5));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillGrade {
    /// Which skills the text shows.
    pub skills: Vec<bool>,
    /// Whether it is about the topic.
    pub topic: bool,
    /// Whether it makes sense.
    pub coherent: bool,
    /// Whether it keeps the length limit.
    pub length: bool,
}

impl SkillGrade {
    fn shown(&self) -> usize {
        self.skills.iter().filter(|&&s| s).count()
    }

    fn others(&self) -> usize {
        [self.topic, self.coherent, self.length].into_iter().filter(|&p| p).count()
    }

    /// Points, of as many as there are skills, and 3.
    pub fn points(&self) -> usize {
        self.shown() + self.others()
    }

    /// Whether every point was earned.
    pub fn full_marks(&self) -> bool {
        self.all_shown() && self.others() == 3
    }

    /// Whether every skill was shown and at least 2 of the other 3 points were earned.
    pub fn all_skills(&self) -> bool {
        self.all_shown() && self.others() >= 2
    }

    fn all_shown(&self) -> bool {
        self.shown() == self.skills.len()
    }

    /// Share of the skills shown; 0 unless the other 3 points were earned, or without skills.
    pub fn skill_fraction(&self) -> f64 {
        if self.others() == 3 { self.shown() as f64 / self.skills.len().max(1) as f64 } else { 0.0 }
    }
}

/// Means over texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkillMix {
    /// Share of texts with full marks.
    pub full_marks: f64,
    /// Share of texts with all skills.
    pub all_skills: f64,
    /// Mean share of skills.
    pub skill_fraction: f64,
}

/// Means over the grades of texts.
///
/// # Errors
///
/// [`Error::Metric`] when there are no grades, one has no skills, or they differ in the number of skills.
pub fn skill_mix(grades: &[SkillGrade]) -> Result<SkillMix> {
    const NAME: &str = "skill_mix";
    let Some(first) = grades.first() else {
        return Err(Error::metric(NAME, "there are no grades"));
    };
    let k = first.skills.len();
    if let Some((i, g)) = grades.iter().enumerate().find(|(_, g)| g.skills.is_empty() || g.skills.len() != k)
    {
        return Err(Error::metric(NAME, format!("grade {i} has {} skills, the first {k}", g.skills.len())));
    }
    let n = grades.len() as f64;
    Ok(SkillMix {
        full_marks: grades.iter().filter(|g| g.full_marks()).count() as f64 / n,
        all_skills: grades.iter().filter(|g| g.all_skills()).count() as f64 / n,
        skill_fraction: grades.iter().map(SkillGrade::skill_fraction).sum::<f64>() / n,
    })
}
