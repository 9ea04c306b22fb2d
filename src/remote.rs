//! Mounts `sluice-git` under `/git/`: turns an upload's token into access and its limits into a policy.
