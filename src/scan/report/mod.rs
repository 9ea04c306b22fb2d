//! Artefacts: SARIF, CycloneDX, JSON, text.
