use super::Lab;
use insta::assert_snapshot;

#[test]
fn the_first_help_fits_a_screen() {
    let answer = Lab::new().run("--help").expect(0);
    assert_snapshot!(answer.out, @"
    Merges models: many fine-tuned checkpoints of one architecture into one, without training

    Usage: mtl-merge <COMMAND>

    Commands:
      run           Merge the checkpoints that a recipe names
      check         Check a recipe and its checkpoints as `run` does, and tell what it would do; write
                    nothing
      inspect       Look at checkpoints: tensors, their values, and how task vectors relate
      diff          Compare two checkpoints
      extract-lora  Extract a LoRA adapter from a fine-tuned model
      moe           Build a mixture of experts from dense models
      sweep         Merge and evaluate a grid of parameters
      methods       List the merge methods, or explain one
      completions   Print a script that completes the options in a shell
      help          Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Examples:
      mtl-merge run config.yml merged/          # also: mtl-merge config.yml merged/
      mtl-merge check config.yml
      mtl-merge inspect ft1 ft2 --base base
      mtl-merge diff merged/ reference/
      mtl-merge methods ties

    Recipes are those of mergekit. Nothing is ever downloaded.

    Exit status: 0 done, 1 checkpoints differ or a point of a sweep failed, 2 bad usage, recipe or
    checkpoint, 130 interrupted. MTL_LOG=mtl_merge=debug logs more.
    ");
}

#[test]
fn every_subcommand_has_help_with_examples() {
    let lab = Lab::new();
    for name in ["run", "check", "inspect", "diff", "extract-lora", "moe", "sweep", "methods", "completions"]
    {
        let help = lab.run(&format!("{name} --help")).expect(0).out;
        assert!(help.contains("Example") && help.contains(&format!("mtl-merge {name}")), "{name}: {help}");
    }
}

#[test]
fn the_short_help_of_run_leaves_options_without_effect_out() {
    let answer = Lab::new().run("run -h").expect(0);
    assert_snapshot!(answer.out, @"
    Merge the checkpoints that a recipe names

    Usage: mtl-merge run [OPTIONS] <CONFIG> <OUT>

    Arguments:
      <CONFIG>  Recipe: mergekit's YAML, or the same keys in TOML or JSON
      <OUT>     Folder to write, or a file if its name ends in `.safetensors`; appears complete or not
                at all

    Options:
          --random-seed <SEED>          Seed of methods that draw at random, instead of the recipe's
      -j, --num-threads <N>             Threads; 0 for one per core [default: 0]
          --max-memory <SIZE>           Memory besides mapped files, such as 256M or 2G [default: 256M]
          --allow-nan                   Keep NaN and infinite values instead of refusing them
          --unsafe-truncate-embeddings  Cut embedding tables of different lengths to the shortest
          --allow-crimes                Mix architectures
          --strict                      Refuse keys of the recipe that mean nothing, instead of
                                        remarking on them
      -h, --help                        Print help (see more with '--help')

    Output:
          --out-shard-size <SIZE>   Bytes per output shard, with suffix k, m or b for 10^3, 10^6, 10^9;
                                    0 for one file [default: 5B]
          --overwrite               Replace a folder that has content already
          --no-write-model-card     Leave the model card, README.md, out
          --no-copy-tokenizer       Leave the tokenizer out
      -I, --intermediate-dir <DIR>  Folder for the results of named recipes, if the file holds several
                                    [default: OUT.parts]
          --no-lazy                 Merge named recipes anew even if their results are there
          --json                    Print what was done as JSON
          --quiet                   Show no progress and no remarks
      -v...                         Log more; twice for everything

    Examples:
      mtl-merge run config.yml merged/
      mtl-merge run config.yml merged/ --out-shard-size 2B -j 8 --random-seed 7
      mtl-merge run config.yml merged.safetensors --json --quiet > report.json

    A merge that was interrupted goes on where it stopped when the same command is run again.
    ");
}

#[test]
fn the_long_help_of_sweep() {
    assert_snapshot!(Lab::new().run("sweep --help").expect(0).out, @r"
    Merge and evaluate a grid of parameters

    Usage: mtl-merge sweep [OPTIONS] --grid <NAME=VALUES> --eval <COMMAND> <CONFIG> <OUT>

    Arguments:
      <CONFIG>  Recipe
      <OUT>     Folder for the results

    Options:
          --grid <NAME=VALUES>          Parameter and its values, NAME=FIRST:LAST:STEP or
                                        NAME=VALUE,VALUE; repeat for a grid
          --eval <COMMAND>              Command that evaluates a merged model
          --metric <NAME>               Metric to compare by; repeat for several [default: all]
          --minimize <NAME>             Metric of which less is better; repeat for several
          --timeout <SECONDS>           Longest time for one evaluation, in seconds
          --jobs <N>                    Points under way at a time [default: 1]
          --keep                        Keep the merged models, in OUT/models
          --random-seed <SEED>          Seed of methods that draw at random, instead of the recipe's
      -j, --num-threads <N>             Threads; 0 for one per core [default: 0]
          --max-memory <SIZE>           Memory besides mapped files, such as 256M or 2G [default: 256M]
          --allow-nan                   Keep NaN and infinite values instead of refusing them
          --unsafe-truncate-embeddings  Cut embedding tables of different lengths to the shortest
          --allow-crimes                Mix architectures
          --strict                      Refuse keys of the recipe that mean nothing, instead of
                                        remarking on them
          --json                        Print the results as JSON
          --quiet                       Show no progress
      -h, --help                        Print help

    Examples:
      mtl-merge sweep config.yml sweep/ --grid lambda=0.1:1.0:0.1 --eval 'python eval.py {model}'
      mtl-merge sweep config.yml sweep/ --grid 'models[0].weight=0.2,0.4' --grid density=0.3:0.9:0.2 \
          --eval './eval.sh {model} {name}' --metric digits --metric loss --minimize loss

    The command is run without a shell; its arguments may contain {model}, the merged folder, and
    {name}, the point's name. The last line it prints must be a JSON object of metrics or a number,
    which is then called `score`. Its output is kept in OUT/logs, the results in OUT/sweep.csv and
    OUT/sweep.json; points that are there already are not computed again. A bare name such as `weight`
    replaces the values of all models.
    ");
}

#[test]
fn the_help_of_inspect_and_diff() {
    let lab = Lab::new();
    assert_snapshot!(lab.run("inspect --help").expect(0).out, @"
    Look at checkpoints: tensors, their values, and how task vectors relate

    Usage: mtl-merge inspect [OPTIONS] <MODEL>...

    Arguments:
      <MODEL>...  Checkpoints

    Options:
          --base <MODEL>  Model they were fine-tuned from: compare task vectors instead of listing
                          tensors
          --json          Print JSON
          --csv           Print comma-separated values: one line per tensor, or per part of the model
                          with `--base`
          --plots <DIR>   Folder for heat maps of cosine and sign conflict and norms by layer, as SVG
                          and PNG
      -j, --threads <N>   Threads; 0 for one per core [default: 0]
          --quiet         Show no progress
      -h, --help          Print help

    Examples:
      mtl-merge inspect model/
      mtl-merge inspect ft1/ ft2/ ft3/ --base base/ --plots figures/
      mtl-merge inspect model.safetensors --csv > tensors.csv

    A model is a safetensors file, an index, a folder, or one of these with a LoRA adapter:
    base/+adapter/.
    ");
    assert_snapshot!(lab.run("diff --help").expect(0).out, @"
    Compare two checkpoints

    Usage: mtl-merge diff [OPTIONS] <FIRST> <SECOND>

    Arguments:
      <FIRST>   First checkpoint: a safetensors file, an index or a folder
      <SECOND>  Second checkpoint

    Options:
          --rtol <X>     Tolerance relative to the second [default: 0]
          --atol <X>     Absolute tolerance [default: 0]
          --any-dtype    Compare floating-point values across types
          --limit <N>    Most tensors to list; 0 for all [default: 40]
          --json         Print JSON
      -j, --threads <N>  Threads; 0 for one per core [default: 0]
          --quiet        Print nothing; the exit status tells
      -h, --help         Print help

    Examples:
      mtl-merge diff merged/ reference/
      mtl-merge diff a.safetensors b.safetensors --rtol 1e-5 --atol 1e-6
      mtl-merge diff bf16/ f32/ --any-dtype --rtol 0.01

    Equal means |a - b| <= atol + rtol * |b| for every element; by default, the same bits.
    Exit status: 0 equal, 1 different, 2 a checkpoint cannot be read.
    ");
}

#[test]
fn methods_are_listed_and_explained() {
    let lab = Lab::new();
    let list = lab.run("methods").expect(0).out;
    assert!(list.contains("linear") && list.contains("normalize = true"), "{list}");
    assert_snapshot!(lab.run("methods linear").expect(0).out, @"
    linear: Model soups: averaging weights of multiple fine-tuned models (arXiv 2203.05482)
    base model unused; 1 or more models besides it

    parameter  scope      value            default
    weight     per model  a finite number  required  share of the model in the sum
    normalize  all        true or false    true      divide by the sum of the weights
    ");
    let error = lab.run("methods linaer").expect(2).err;
    assert_snapshot!(error, @"error: unknown merge method `linaer`; did you mean `linear`?");
    let json: serde_json::Value = serde_json::from_str(&lab.run("methods --json").expect(0).out).unwrap();
    assert_eq!(json[0]["parameters"][0]["required"], true);
}

#[test]
fn completions_know_the_subcommands() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(Lab::new().run(&format!("completions {shell}")).expect(0).out.contains("inspect"), "{shell}");
    }
}
