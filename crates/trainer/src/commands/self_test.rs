use burn::prelude::*;
use serde::Serialize;
use vae_core::{DiagonalGaussian, Sampler};
use vae_measures::{LinearGaussian, LogMeanExp, Mean};

use super::error::TrainerError;
use crate::commands::output::{print, print_json};
use crate::device::open_device;
use crate::experiment::random::{Purpose, Stream};
use run_files::settings::DeviceChoice;
use run_files::wording::counted;

/// Of x and of z.
const DIMENSIONS: usize = 5;
const LATENTS: usize = 3;
/// Draws an x of the bounds shown.
const DRAWS: [usize; 4] = [1, 10, 100, 1000];
/// A comparison of two means may be off by so many standard errors.
const STANDARD_ERRORS: f64 = 5.0;

#[derive(clap::Args)]
pub(super) struct SelfTestFlags {
    /// Points drawn from the model, at least 20
    #[arg(long, value_name = "N", default_value = "200", value_parser = parse_points)]
    data: usize,
    /// Seed of model, points and draws
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// flex (the CPU), ndarray, cuda:N or vulkan:N
    #[arg(long, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Points at least: a standard error of fewer says little, and would condemn machines that are well.
const FEWEST_POINTS: usize = 20;

fn parse_points(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(points) if points >= FEWEST_POINTS => Ok(points),
        _ => Err(format!(
            "a number from {FEWEST_POINTS} on: fewer points cannot tell a fault from chance"
        )),
    }
}

/// What was found, means over the points in nats.
struct Found {
    log_likelihood: f64,
    elbo: f64,
    /// Number of draws, and the bound.
    bounds: Vec<(usize, Mean)>,
    /// The bound less the one with fewer draws before it, or less the ELBO; point by point.
    gains: Vec<Mean>,
    /// The likelihood less the last bound.
    rest: Mean,
    kl: f64,
    /// The same from draws, by the sampler.
    sampled_kl: Mean,
    /// What the post's sampler costs, and what its loss reports for it.
    blog_kl: Mean,
}

pub(super) fn run(flags: &SelfTestFlags) -> Result<(), TrainerError> {
    let device = open_device(flags.device)?;
    let found = measure(flags.seed, flags.data, &device);
    let checks = checks(&found);
    if flags.json {
        print_json(&SelfTest::new(flags, &found, &checks))?;
    } else {
        print(&table(flags, &found, &checks))?;
    }
    match checks.iter().filter(|(_, holds)| !holds).count() {
        0 => Ok(()),
        failed => Err(TrainerError::SelfTest {
            failed,
            checks: checks.len(),
        }),
    }
}

/// Draws points from a linear-Gaussian model and bounds their likelihood with the program's own posterior, weights and
/// streamed mean.
fn measure(seed: u64, points: usize, device: &Device) -> Found {
    let mut numbers = Stream::new(seed, Purpose::ImportanceNoise, u64::MAX);
    let mut normal = || f64::from(numbers.standard_normal(1)[0]);
    let model = LinearGaussian::near_posterior(DIMENSIONS, LATENTS, &mut normal);
    let (mut log_likelihood, mut elbo, mut kl) = (Mean::new(), Mean::new(), Mean::new());
    let mut bounds: Vec<(usize, Mean)> = DRAWS.map(|draws| (draws, Mean::new())).to_vec();
    let mut gains = vec![Mean::new(); DRAWS.len()];
    let (mut rest, mut sampled_kl, mut blog_kl) = (Mean::new(), Mean::new(), Mean::new());
    for point in 0..points as u64 {
        let z: Vec<f64> = (0..LATENTS).map(|_| normal()).collect();
        let x: Vec<f64> = model
            .decode(&z)
            .iter()
            .zip(&model.log_variance)
            .map(|(mean, log_variance)| mean + (0.5 * log_variance).exp() * normal())
            .collect();
        let most = DRAWS[DRAWS.len() - 1];
        let noise =
            Stream::new(seed, Purpose::ImportanceNoise, point).standard_normal(most * LATENTS);
        let noise = Tensor::<2>::from_data(TensorData::new(noise, [most, LATENTS]), device);
        let posterior = posterior(&model, &x, most, device);
        let weights = log_weights(&model, &x, &posterior, Sampler::Correct, noise.clone());
        let blog = log_weights(&model, &x, &posterior, Sampler::Blog, noise);
        let exact = model.log_likelihood(&x);
        log_likelihood.add(exact);
        elbo.add(model.elbo(&x));
        kl.add(model.kl(&x));
        let average = |values: &[(f64, f64)]| {
            values.iter().map(|(ratio, _)| -ratio).sum::<f64>() / values.len() as f64
        };
        sampled_kl.add(average(&weights) - model.kl(&x));
        blog_kl.add(average(&blog));
        let mut before = model.elbo(&x);
        for (((draws, bound), gain), _) in bounds.iter_mut().zip(&mut gains).zip(DRAWS) {
            // Groups of so many draws, so that each of the bounds uses all of them.
            let mut groups = Mean::new();
            for group in weights.chunks(*draws) {
                let mut of_group = LogMeanExp::new();
                group
                    .iter()
                    .for_each(|(ratio, log_p)| of_group.add(ratio + log_p));
                groups.add(of_group.value());
            }
            bound.add(groups.mean());
            gain.add(groups.mean() - before);
            before = groups.mean();
        }
        rest.add(exact - before);
    }
    Found {
        log_likelihood: log_likelihood.mean(),
        elbo: elbo.mean(),
        bounds,
        gains,
        rest,
        kl: kl.mean(),
        sampled_kl,
        blog_kl,
    }
}

/// q(z given x), once for each draw; `[draws, latents]`
fn posterior(model: &LinearGaussian, x: &[f64], draws: usize, device: &Device) -> DiagonalGaussian {
    let row = |values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        let row = TensorData::new(values, [1, LATENTS]);
        Tensor::<2>::from_data(row, device).expand([draws, LATENTS])
    };
    DiagonalGaussian {
        mean: row(&model.posterior_mean(x)),
        log_variance: row(&model.encoder_log_variance),
    }
}

/// log p(z) - log q(z given x), and log p(x given z), of each draw.
fn log_weights(
    model: &LinearGaussian,
    x: &[f64],
    posterior: &DiagonalGaussian,
    sampler: Sampler,
    noise: Tensor<2>,
) -> Vec<(f64, f64)> {
    let latent = posterior.draw(sampler, noise.clone());
    let ratios = posterior.log_prior_ratio(sampler, latent.clone(), noise);
    let wide = |data: TensorData| -> Vec<f64> {
        let data = data.convert_dtype(burn::tensor::DType::F64);
        data.try_to_vec::<f64>()
            .expect("converted to float64 just now")
    };
    let (ratios, latents) = (wide(ratios.into_data()), wide(latent.into_data()));
    let likelihoods = latents
        .chunks(LATENTS)
        .map(|z| model.conditional_log_likelihood(x, z));
    ratios.into_iter().zip(likelihoods).collect()
}

/// What has to hold, in words, and whether it does.
fn checks(found: &Found) -> Vec<(String, bool)> {
    let error =
        |mean: &Mean| STANDARD_ERRORS * mean.standard_error().unwrap_or(f64::INFINITY) + 1e-4;
    let mut checks = Vec::new();
    let first = &found.gains[0];
    checks.push((
        "the mean of 1-draw bounds is the exact ELBO".to_owned(),
        first.mean().abs() <= error(first),
    ));
    for (gain, (draws, _)) in found.gains.iter().zip(&found.bounds).skip(1) {
        // Of the same draws: Jensen's inequality holds for every point.
        checks.push((
            format!("{draws} draws bind at least as tightly as fewer"),
            gain.mean() >= -1e-6,
        ));
    }
    checks.push((
        "no bound exceeds log p(x), but for chance".to_owned(),
        found.rest.mean() >= -error(&found.rest),
    ));
    checks.push((
        "the KL divergence of the loss is that of what is drawn".to_owned(),
        found.sampled_kl.mean().abs() <= error(&found.sampled_kl),
    ));
    checks
}

fn table(flags: &SelfTestFlags, found: &Found, checks: &[(String, bool)]) -> String {
    let mut lines = vec![
        format!(
            "linear-Gaussian model of {DIMENSIONS} dimensions and {LATENTS} latents, {} data points, nats a point\n",
            flags.data
        ),
        format!("ELBO, exact          {:10.4}", found.elbo),
    ];
    lines.extend(found.bounds.iter().map(|(draws, bound)| {
        let name = format!("IW bound, {}", counted(*draws as u64, "draw"));
        format!("{name:<20} {:10.4}", bound.mean())
    }));
    lines.extend([
        format!("log p(x), exact      {:10.4}\n", found.log_likelihood),
        format!(
            "KL divergence: {:.4} in closed form, {:.4} of the draws",
            found.kl,
            found.kl + found.sampled_kl.mean()
        ),
        format!(
            "the post's sampler draws what costs {:.4}, where its loss reports {:.4}\n",
            found.blog_kl.mean(),
            found.kl
        ),
    ]);
    lines.extend(
        checks
            .iter()
            .map(|(check, holds)| format!("{}  {check}", if *holds { "ok  " } else { "FAIL" })),
    );
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What is printed for programs.
#[derive(Serialize)]
struct SelfTest<'a> {
    data: usize,
    seed: u64,
    elbo: f64,
    importance_weighted: Vec<Bound>,
    log_likelihood: f64,
    kl: f64,
    kl_of_draws: f64,
    kl_of_the_posts_draws: f64,
    checks: Vec<Check<'a>>,
}

#[derive(Serialize)]
struct Bound {
    draws: usize,
    nats: f64,
    standard_error: Option<f64>,
}

#[derive(Serialize)]
struct Check<'a> {
    check: &'a str,
    holds: bool,
}

impl<'a> SelfTest<'a> {
    fn new(flags: &SelfTestFlags, found: &Found, checks: &'a [(String, bool)]) -> Self {
        let bounds = found.bounds.iter().map(|(draws, bound)| Bound {
            draws: *draws,
            nats: bound.mean(),
            standard_error: bound.standard_error(),
        });
        let checks = checks.iter().map(|(check, holds)| Check {
            check,
            holds: *holds,
        });
        Self {
            data: flags.data,
            seed: flags.seed,
            elbo: found.elbo,
            importance_weighted: bounds.collect(),
            log_likelihood: found.log_likelihood,
            kl: found.kl,
            kl_of_draws: found.kl + found.sampled_kl.mean(),
            kl_of_the_posts_draws: found.blog_kl.mean(),
            checks: checks.collect(),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn fewer_points_than_tell_something_are_refused_and_so_many_pass() {
        for few in ["0", "1", "19", "many"] {
            let refusal = parse_points(few).expect_err("too few");
            assert!(refusal.contains("from 20 on"), "{refusal}");
        }
        let fewest = parse_points("20").expect("enough");
        for seed in 1..6 {
            let checks = checks(&measure(seed, fewest, &Device::flex()));
            assert!(checks.iter().all(|(_, holds)| *holds), "{seed}: {checks:?}");
        }
    }

    #[test]
    fn the_bounds_hold_and_a_wrong_weight_is_caught() {
        let mut found = measure(3, 60, &Device::flex());
        assert!(
            checks(&found).iter().all(|(_, holds)| *holds),
            "{:?}",
            checks(&found)
        );
        assert!(found.elbo < found.log_likelihood - 0.05);
        // The slip of the post, and of Keras before 2016: the loss's KL is not that of the draws.
        let mut slip = Mean::new();
        for index in 0..60 {
            slip.add(found.blog_kl.mean() - found.kl + 1e-3 * f64::from(index % 3));
        }
        found.sampled_kl = slip;
        let failed: Vec<String> = checks(&found)
            .into_iter()
            .filter(|(_, holds)| !holds)
            .map(|(check, _)| check)
            .collect();
        assert_eq!(
            failed,
            ["the KL divergence of the loss is that of what is drawn"]
        );
    }
}
