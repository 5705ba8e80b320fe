//! Measures what a pull does with layers once it has them, without a network:
//!
//! ```text
//! cargo run --release --example bench-layers -- inflate LAYER…        each decoder alone, MB/s of output
//! cargo run --release --example bench-layers -- apply ROOT LAYER…     all layers in parallel, then the sync
//! cargo run --release --example bench-layers -- mount ROOT LAYERS N   N mounts of a stack, then N unmounts
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use slipway::base::digest::Digest;
use slipway::base::id_map::IdMaps;
use slipway::snapshot::decompress::{Compression, reader};
use slipway::snapshot::{ChainId, Durability, MountOptions, Snapshots, Writable, unmount};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["inflate", layers @ ..] => layers.iter().try_for_each(|layer| inflate(Path::new(layer))),
        ["apply", root, layers @ ..] => apply(Path::new(root), layers),
        ["mount", root, layers, count] => mounts(Path::new(root), layers.parse()?, count.parse()?),
        _ => Err("usage: bench-layers inflate|apply|mount …; see the head of scripts/bench-layers.rs".into()),
    }
}

fn open(layer: &Path) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(layer)?;
    let mut start = [0; 4];
    file.read_exact(&mut start)?;
    reader(Compression::sniff(&start), File::open(layer)?)
}

fn inflate(layer: &Path) -> Outcome {
    let mut buffer = vec![0; 256 * 1024];
    let mut drain = |name: &str, mut source: Box<dyn Read + Send>| -> Outcome {
        let (start, cpu, mut total) = (Instant::now(), cpu_time()?, 0);
        loop {
            let length = source.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            total += length;
        }
        let (elapsed, cpu) = (start.elapsed(), cpu_time()? - cpu);
        let rate = total as f64 / cpu.as_secs_f64() / 1e6;
        println!("{name:10} {rate:8.0} MB/s of CPU, {:8.1} ms wall, {total} bytes", ms(elapsed));
        Ok(())
    };
    drain("slipway", open(layer)?)?;
    drain("zlib-rs", Box::new(flate2::read::MultiGzDecoder::new(File::open(layer)?)))
}

fn apply(root: &Path, layers: &[&str]) -> Outcome {
    let snapshots = Snapshots::open(root, &IdMaps::default())?;
    let start = Instant::now();
    let chains = std::thread::scope(|scope| {
        let running: Vec<_> =
            layers.iter().map(|layer| scope.spawn(|| apply_one(&snapshots, Path::new(layer)))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread panicked")?)
            .collect::<Result<Vec<_>, _>>()
    })?;
    println!("all applied {:8.1} ms", ms(start.elapsed()));
    let start = Instant::now();
    snapshots.sync(&chains)?;
    println!("synced      {:8.1} ms", ms(start.elapsed()));
    let start = Instant::now();
    chains.iter().try_for_each(|chain| snapshots.remove(chain))?;
    println!("removed     {:8.1} ms", ms(start.elapsed()));
    let status = std::fs::read_to_string("/proc/self/status")?;
    let memory = |line: &&str| line.starts_with("VmRSS") || line.starts_with("VmHWM");
    status.lines().filter(memory).for_each(|line| println!("{line}"));
    Ok(())
}

fn apply_one(snapshots: &Snapshots, layer: &Path) -> Result<ChainId, Box<dyn Error + Send + Sync>> {
    let start = Instant::now();
    let chain = ChainId::base(Digest::of(layer.as_os_str().as_encoded_bytes()));
    let mut writer = snapshots.begin(&chain, &[])?;
    let applied = writer.apply(open(layer)?)?;
    writer.commit()?;
    println!("{} {:8.1} ms {} bytes in files", layer.display(), ms(start.elapsed()), applied.size);
    Ok(chain)
}

fn mounts(root: &Path, layers: usize, count: usize) -> Outcome {
    let snapshots = Snapshots::open(root, &IdMaps::default())?;
    let chains: Vec<ChainId> = (0..layers).map(|n| ChainId::base(Digest::of(&n.to_le_bytes()))).collect();
    for chain in &chains {
        let mut writer = snapshots.begin(chain, &[])?;
        writer.apply([0u8; 1024].as_slice())?;
        writer.commit()?;
    }
    for durability in [Durability::Synced, Durability::Volatile] {
        let options = MountOptions { durability, limit: None };
        let dir = |number: usize, name: &str| root.join(format!("{durability:?}-{number}")).join(name);
        let start = Instant::now();
        for number in 0..count {
            let target = dir(number, "target");
            std::fs::create_dir_all(&target)?;
            let writable = Writable { upper: dir(number, "upper"), work: dir(number, "work") };
            snapshots.mount(&chains, &writable, &target, options)?;
            std::fs::write(target.join("file"), "content")?;
        }
        let mounted = start.elapsed();
        let start = Instant::now();
        for number in 0..count {
            unmount(&dir(number, "target"))?;
        }
        let each = |total: Duration| ms(total) / count as f64;
        println!("{durability:?}: mount {:.3} ms, unmount {:.3} ms", each(mounted), each(start.elapsed()));
    }
    Ok(())
}

/// This thread's: what other work on the machine disturbs least.
fn cpu_time() -> nix::Result<Duration> {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
