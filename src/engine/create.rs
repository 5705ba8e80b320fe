//! Creating a container: image, checks, record. Nothing is left behind when a step fails.

use std::sync::Arc;

use super::Engine;
use crate::base::host::CgroupVersion;
use crate::base::id::ContainerId;
use crate::base::time::Timestamp;
use crate::container::create::{self, Checked, CreateBody, CreateDefaults, Invalid};
use crate::container::error::NameError;
use crate::container::links::{self, Link};
use crate::container::record::MountPoint;
use crate::container::{self, Record, names, partners};
use crate::image::{Image, ImageError, Lease};
use crate::registry::Platform;
use crate::snapshot;

/// A request to create a container, as the API adapted it to the newest version.
pub struct CreateRequest {
    /// Without the slash; absent: one is made up.
    pub name: Option<String>,
    pub platform: Option<Platform>,
    pub body: CreateBody,
}

/// A container that was created.
#[derive(Debug)]
pub struct Created {
    pub id: ContainerId,
    pub warnings: Vec<String>,
}

/// Why no container was created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Volume(#[from] container::ContainerError),
    #[error(transparent)]
    WorkingDir(#[from] container::WorkingDirError),
    #[error("cannot save the container: {0}")]
    Save(#[source] std::io::Error),
    #[error("an image worker ended early")]
    Worker,
}

/// How often a made-up name is tried before the short id stands in.
const NAME_TRIES: u32 = 6;

impl Engine {
    /// Creates a container.
    pub async fn create_container(&self, request: CreateRequest) -> Result<Created, CreateError> {
        let CreateRequest { name, platform, mut body } = request;
        if let Some(name) = &name {
            names::check(name)?;
        }
        let image = self.image_for(&body, platform.as_ref()).await?;
        // Until the container is in the list, nothing else keeps its layers.
        let _lease = image.as_ref().map(|image| self.images.keep(image)).transpose()?;
        self.parts.launcher.anticipate();
        let id = ContainerId::random();
        let run = image.as_ref().map(|image| &image.config.config);
        let inherited = container::inherited(&self.containers, body.host_config.as_ref())
            .map_err(container::ContainerError::from)?;
        partners::settle(&self.containers, body.host_config.as_mut())?;
        let links = links::resolve(&self.containers, body.host_config.as_ref())
            .map_err(container::ContainerError::from)?;
        let mut checked =
            create::prepare(body, run, &self.create_defaults(), &self.host, id.short(), inherited)?;
        let _mounted = self.mounted_images(&id, &mut checked.mounts).await?;
        let name = self.reserve(name, &id)?;
        match self.save(&id, &name, image, checked, links).await {
            Ok(created) => Ok(created),
            Err(error) => {
                self.containers.release_name(&name, &id);
                Err(error)
            }
        }
    }

    async fn save(
        &self,
        id: &ContainerId,
        name: &str,
        image: Option<Arc<Image>>,
        checked: Checked,
        links: Vec<Link>,
    ) -> Result<Created, CreateError> {
        let Checked { config, mut host_config, endpoints, args, mounts, size_limit, mut warnings } = checked;
        if let Some(image) = &image {
            warnings.extend(platform_warning(image));
        }
        // From now on they follow the names of both sides; see [`links::shown`].
        host_config.links = None;
        let none = crate::base::digest::Digest::of(b"");
        let record = Record {
            id: id.clone(),
            name: format!("/{name}"),
            created: Timestamp::now(),
            image: image.as_ref().map_or(none, |image| image.id),
            manifest: image.as_ref().map_or(none, |image| image.manifest.digest),
            chain: image.as_ref().map(|image| image.chain.clone()).unwrap_or_default(),
            platform: "linux".to_owned(),
            args,
            config,
            host_config,
            endpoints,
            mounts,
            links,
            size_limit,
        };
        container::check_working_dir(&self.parts, &record).await?;
        let record = container::prepare_volumes(&self.parts, record).await?;
        if let Err(error) = container::create(&self.parts, record.clone()).await {
            container::abandon_volumes(&self.parts, record).await;
            return Err(CreateError::Save(error));
        }
        container::settle_volumes(&self.parts, &record).await;
        Ok(Created { id: id.clone(), warnings })
    }

    async fn image_for(
        &self,
        body: &CreateBody,
        platform: Option<&Platform>,
    ) -> Result<Option<Arc<Image>>, CreateError> {
        if body.config.image.is_empty() {
            return Ok(None);
        }
        let image = match platform {
            None => self.images.resolve(&body.config.image)?,
            Some(platform) => self.images.resolve_for(&body.config.image, platform)?,
        };
        self.unpack(&image).await?;
        Ok(Some(image))
    }

    /// Finds the images that are to be mounted, and keeps them until their leases end.
    async fn mounted_images(
        &self,
        id: &ContainerId,
        mounts: &mut [MountPoint],
    ) -> Result<Vec<Lease>, CreateError> {
        let mut leases = Vec::new();
        for image in container::find_mounted_images(&self.parts, id, mounts)? {
            leases.push(self.images.keep(&image)?);
            self.unpack(&image).await?;
        }
        Ok(leases)
    }

    async fn unpack(&self, image: &Arc<Image>) -> Result<(), CreateError> {
        if image.chain.iter().all(|chain| self.images.snapshots().exists(chain)) {
            return Ok(());
        }
        let (images, image) = (self.images.clone(), image.clone());
        let done = tokio::task::spawn_blocking(move || images.unpack(&image)).await;
        Ok(done.map_err(|_| CreateError::Worker)??)
    }

    fn reserve(&self, name: Option<String>, id: &ContainerId) -> Result<String, NameError> {
        if let Some(name) = name {
            self.containers.reserve_name(&name, id)?;
            return Ok(name);
        }
        for attempt in 0..NAME_TRIES {
            let name = names::made_up(attempt);
            if self.containers.reserve_name(&name, id).is_ok() {
                return Ok(name);
            }
        }
        self.containers.reserve_name(id.short(), id)?;
        Ok(id.short().to_owned())
    }

    fn create_defaults(&self) -> CreateDefaults {
        let (config, live) = (&self.config, self.config.live());
        let private = self.host.cgroups.version == CgroupVersion::V2;
        let cgroupns = if private { "private" } else { "host" };
        let built_in = ["runc", "slipway", "io.containerd.runc.v2"].map(str::to_owned);
        CreateDefaults {
            log_driver: config.log_driver.clone(),
            log_opts: config.log_opts.clone(),
            shm_size: i64::try_from(config.default_shm_size).unwrap_or(i64::MAX),
            ipc_mode: config.default_ipc_mode.clone(),
            cgroupns_mode: config.default_cgroupns_mode.clone().unwrap_or_else(|| cgroupns.to_owned()),
            runtime: live.default_runtime.clone(),
            runtimes: built_in.into_iter().chain(live.runtimes.keys().cloned()).collect(),
            systemd_cgroup: config.cgroup_driver == crate::config::CgroupDriver::Systemd,
            remapped: !config.ids.is_identity(),
            data_root: self.parts.paths.data_root.clone(),
            can_limit_size: snapshot::can_limit(&self.parts.paths.containers()),
            size_limit: config.size_limit,
        }
    }
}

fn platform_warning(image: &Image) -> Option<String> {
    let host = Platform::host();
    host.rank(&image.platform).is_none().then(|| {
        format!(
            "The requested image's platform ({}) does not match the detected host platform ({host}) and no specific \
             platform was requested",
            image.platform
        )
    })
}
