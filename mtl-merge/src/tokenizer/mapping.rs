//! Where the rows of a re-indexed embedding are from.
use super::plan::{VocabPlan, wrong};
use crate::Result;
use std::{collections::BTreeMap, sync::Arc};

/// Where one row of a model's re-indexed embedding is from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowSource {
    /// This row of the same model.
    Own(usize),
    /// A row of another model.
    Model {
        /// Index of the model.
        model: usize,
        /// Row of its embedding.
        row: usize,
    },
    /// The mean of rows, as `(model, row)`, at least two.
    Mean(Arc<[(usize, usize)]>),
    /// Zeros.
    Zero,
    /// The mean of all the re-indexed rows of the same model that belong to a token.
    MeanOfAll,
}

impl VocabPlan {
    /// For each of the `models` that have a tensor with a vocabulary axis, the source of each of its new rows.
    ///
    /// `models` are `(index, rows)`: the model's place in [`plan_vocabulary`](super::plan_vocabulary) and the rows of its tensor. `base` is the
    /// index of the base model of this tensor. A model that lacks a token takes, in this order, the row that the
    /// recipe names, the only row there is, the base model's, the mean of the others'.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`](crate::Error::Recipe) when a tensor has too few rows, or a token's source has no part in this tensor.
    pub fn mapping(&self, models: &[(usize, usize)], base: Option<usize>) -> Result<Vec<Vec<RowSource>>> {
        let mut mapping = vec![vec![RowSource::MeanOfAll; self.rows]; models.len()];
        let taking_part: BTreeMap<usize, usize> = models.iter().copied().collect();
        if let Some(model) = taking_part.keys().find(|&&model| model >= self.own.len()) {
            return Err(wrong("models", format!("there is no model {model}; there are {}", self.own.len())));
        }
        let mut orphans = 0;
        for (position, &id) in self.ids.iter().enumerate() {
            let row = |model: usize| self.own[model][position];
            let setting = self.settings.get(&id);
            let fallback = match setting {
                Some((Some((model, row)), _)) if taking_part.contains_key(model) => {
                    RowSource::Model { model: *model, row: *row as usize }
                }
                Some((Some((model, _)), _)) => {
                    let message = format!("`{}` has no part in this tensor", self.labels[*model]);
                    return Err(wrong(&format!("tokenizer.tokens.{}.source", self.text(id)), message));
                }
                Some((None, _)) => RowSource::Zero,
                None => {
                    let rows = models.iter().filter_map(|&(model, _)| Some((model, row(model)? as usize)));
                    let rows: Vec<_> = rows.collect();
                    let of_base = rows.iter().find(|&&(model, _)| Some(model) == base);
                    match (rows.as_slice(), of_base) {
                        ([], _) => {
                            orphans += 1;
                            RowSource::Zero
                        }
                        (&[(model, row)], _) | (_, Some(&(model, row))) => RowSource::Model { model, row },
                        // Nobody needs the mean of a token that everybody has.
                        (all, None) if all.len() == models.len() => RowSource::Zero,
                        (several, None) => RowSource::Mean(several.into()),
                    }
                }
            };
            let forced = setting.is_some_and(|&(_, force)| force);
            for (&(model, _), rows) in models.iter().zip(&mut mapping) {
                rows[id as usize] = match row(model) {
                    Some(row) if !forced => RowSource::Own(row as usize),
                    _ => match &fallback {
                        &RowSource::Model { model: donor, row } if donor == model => RowSource::Own(row),
                        other => other.clone(),
                    },
                };
            }
        }
        if orphans > 0 {
            tracing::warn!(
                "{orphans} tokens of the merged vocabulary are in no model of this tensor: zero rows"
            );
        }
        self.check_rows(models, &taking_part, &mapping)?;
        Ok(mapping)
    }

    /// No row may be beyond its tensor.
    fn check_rows(
        &self,
        models: &[(usize, usize)],
        available: &BTreeMap<usize, usize>,
        mapping: &[Vec<RowSource>],
    ) -> Result<()> {
        let check = |model: usize, row: usize, id: usize| {
            let rows = available.get(&model).copied().unwrap_or(0);
            if row < rows {
                return Ok(());
            }
            let label = &self.labels[model];
            let message = format!(
                "token `{}` has row {row} in `{label}`, but the embedding there has {rows} rows; \
                 state the right `vocab_size` in its config.json",
                self.text(u32::try_from(id).unwrap_or(u32::MAX))
            );
            Err(wrong("tokenizer", message))
        };
        for (&(own, _), rows) in models.iter().zip(mapping) {
            for (id, source) in rows.iter().enumerate() {
                match source {
                    RowSource::Own(row) => check(own, *row, id)?,
                    RowSource::Model { model, row } => check(*model, *row, id)?,
                    RowSource::Mean(several) => several.iter().try_for_each(|&(m, row)| check(m, row, id))?,
                    RowSource::Zero | RowSource::MeanOfAll => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{
        ModelVocabulary, TokenEmbedding, TokenizerConfig, Vocabulary, VocabularySource, plan_vocabulary,
    };
    use mtl_core::params::ParamStore;
    use std::path::{Path, PathBuf};

    fn golden(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
    }

    fn models() -> Vec<ModelVocabulary> {
        ["a", "b"]
            .map(|name| ModelVocabulary::read(name, &golden(&format!("inputs/vocab/{name}"))).unwrap())
            .into()
    }

    /// A re-indexed embedding in `f64`, row by row.
    fn reindexed(
        mapping: &[RowSource],
        own: usize,
        tensors: &[Vec<f64>],
        dim: usize,
        ids: &[u32],
    ) -> Vec<Vec<f64>> {
        let row = |model: usize, row: usize| tensors[model][row * dim..][..dim].to_vec();
        let mean = |rows: Vec<Vec<f64>>| -> Vec<f64> {
            (0..dim).map(|i| rows.iter().map(|r| r[i]).sum::<f64>() / rows.len() as f64).collect()
        };
        let value = |source: &RowSource| match source {
            RowSource::Own(r) => row(own, *r),
            RowSource::Model { model, row: r } => row(*model, *r),
            RowSource::Mean(rows) => mean(rows.iter().map(|&(m, r)| row(m, r)).collect()),
            RowSource::Zero | RowSource::MeanOfAll => vec![0.0; dim],
        };
        let mut rows: Vec<_> = mapping.iter().map(value).collect();
        let padding = mean(ids.iter().map(|&id| rows[id as usize].clone()).collect());
        for (row, source) in rows.iter_mut().zip(mapping) {
            if *source == RowSource::MeanOfAll {
                row.clone_from(&padding);
            }
        }
        rows
    }

    /// Compares a merge with the golden one, token by token: there a union's numbers are those of its tokenizer.
    fn check_case(case: &str, config: &TokenizerConfig, base: Option<usize>, merge: fn(f64, f64) -> f64) {
        let models = models();
        let plan = plan_vocabulary(config, base, &models, None).unwrap();
        let expected = ParamStore::open(golden(&format!("cases/{case}/expected.safetensors"))).unwrap();
        let there = match golden(&format!("cases/{case}/expected_tokenizer.json")) {
            path if path.exists() => {
                let dir = tempfile::tempdir().unwrap();
                std::fs::copy(path, dir.path().join("tokenizer.json")).unwrap();
                Vocabulary::read(dir.path()).unwrap().unwrap()
            }
            _ => models[0].vocabulary.clone().unwrap(),
        };
        assert_eq!(plan.vocabulary().len(), there.len());
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            let stores = ["a", "b"]
                .map(|m| ParamStore::open(golden(&format!("inputs/vocab/{m}/model.safetensors"))).unwrap());
            let tensors =
                stores.map(|s| s.f32s(name).unwrap().iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
            let dim = tensors[0].len() / 43;
            let rows = [(0, 43), (1, 45)];
            let mapping = plan.mapping(&rows, base).unwrap();
            let sides: Vec<_> =
                (0..2).map(|m| reindexed(&mapping[m], m, &tensors, dim, plan.token_rows())).collect();
            let values = expected.f32s(name).unwrap();
            assert_eq!(values.len(), plan.rows() * dim);
            let mut partner: Vec<usize> = (0..plan.rows()).collect();
            for (token, id) in plan.vocabulary().tokens() {
                partner[id as usize] = there.id(token).unwrap() as usize;
            }
            for (row, &other) in partner.iter().enumerate() {
                for i in 0..dim {
                    let merged = merge(sides[0][row][i], sides[1][row][i]);
                    let wanted = f64::from(values[other * dim + i]);
                    let close = (merged - wanted).abs() <= 2e-7 + 2e-6 * wanted.abs();
                    assert!(close, "{case} {name} row {row} column {i}: {merged} for {wanted}");
                }
            }
        }
    }

    #[test]
    fn the_base_vocabulary_gives_the_golden_task_arithmetic() {
        let config = TokenizerConfig::new(VocabularySource::Base);
        check_case("tokenizer_base", &config, Some(0), |base, other| base + 0.5 * (other - base));
    }

    #[test]
    fn the_union_gives_the_golden_average() {
        let config = TokenizerConfig::default().pad_to_multiple_of(16);
        check_case("tokenizer_union", &config, None, |a, b| 0.5 * a + 0.5 * b);
    }

    #[test]
    fn a_token_of_several_others_is_the_base_row_or_their_mean() {
        let mut models = models();
        models.push(ModelVocabulary { label: "c".into(), ..models[1].clone() });
        let plan = plan_vocabulary(&TokenizerConfig::default(), Some(0), &models, None).unwrap();
        let parts = [(0, 43), (1, 45), (2, 45)];
        let of = |base| plan.mapping(&parts, base).unwrap();
        let x0 = plan.vocabulary().id("x0").unwrap() as usize;
        assert_eq!(of(Some(0))[0][x0], RowSource::Mean([(1, 33), (2, 33)].as_slice().into()));
        assert_eq!(of(Some(2))[0][x0], RowSource::Model { model: 2, row: 33 });
        let w0 = plan.vocabulary().id("w0").unwrap() as usize;
        assert_eq!(of(Some(0))[2][w0], RowSource::Model { model: 0, row: 3 });
    }

    #[test]
    fn the_recipe_chooses_the_source_of_a_token() {
        let token = |text: &str| TokenEmbedding::ModelToken { model: "b".into(), token: text.into() };
        let config = TokenizerConfig::new(VocabularySource::Base)
            .token("w5", Some(token("x3")), true)
            .token("w0", Some(TokenEmbedding::Zero), false)
            .token("w1", Some(TokenEmbedding::ModelTokenId { model: "a".into(), token_id: 9 }), false)
            .token("w20", Some(TokenEmbedding::Model("b".into())), true)
            .token("<new>", Some(token("x0")), false);
        let plan = plan_vocabulary(&config, Some(0), &models(), None).unwrap();
        let mapping = plan.mapping(&[(0, 43), (1, 45)], Some(0)).unwrap();
        let rows = |text: &str| {
            let id = plan.vocabulary().id(text).unwrap() as usize;
            (mapping[0][id].clone(), mapping[1][id].clone())
        };
        let from_b = |row| (RowSource::Model { model: 1, row }, RowSource::Own(row));
        assert_eq!(rows("w5"), from_b(36));
        assert_eq!(rows("w0"), (RowSource::Own(3), RowSource::Zero));
        assert_eq!(rows("w1"), (RowSource::Own(4), RowSource::Model { model: 0, row: 9 }));
        assert_eq!(rows("w20"), from_b(22));
        assert_eq!(rows("<new>"), from_b(33));
        assert_eq!((plan.rows(), plan.vocabulary().id("<new>")), (44, Some(43)));
        let error = plan.mapping(&[(0, 43)], Some(0)).unwrap_err().to_string();
        assert_eq!(error, "tokenizer.tokens.w5.source: `b` has no part in this tensor");
    }
}
