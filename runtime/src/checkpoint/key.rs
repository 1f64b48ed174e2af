//! The service user's key pair, and the tokens signed with it.
//!
//! Promises: the key is read from its file each time it is asked for, so that a rotated one is taken up; neither the
//! key nor a token appears in an error. Tokens are valid for less than an hour, as Snowflake wants it.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gemba_twins::time::Timestamp;
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use ring::{
    rand::SystemRandom,
    rsa::{KeyPair, PublicKeyComponents},
    signature::RSA_PKCS1_SHA256,
};
use sha2::{Digest, Sha256};

use super::settings::SnowflakeSettings;

/// How long a token is valid, in seconds: Snowflake takes an hour at most.
const VALID_S: i64 = 55 * 60;

/// Why there is no token.
pub(super) type KeyError = String;

/// A token that says who is asking, for the next 55 minutes.
pub(super) fn token(settings: &SnowflakeSettings, now: Timestamp) -> Result<String, KeyError> {
    let pair = read(settings)?;
    let (account, user) = (settings.account_name(), settings.user.to_ascii_uppercase());
    let issued = now.ms() / 1_000;
    let claims = serde_json::json!({
        "iss": format!("{account}.{user}.{}", fingerprint(&pair)),
        "sub": format!("{account}.{user}"),
        "iat": issued,
        "exp": issued + VALID_S,
    });
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(br#"{"alg":"RS256","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .map_err(|_| "the key does not sign".to_owned())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// The key of the file, opened with the passphrase where it is encrypted.
fn read(settings: &SnowflakeSettings) -> Result<KeyPair, KeyError> {
    let file = settings.key_file.display();
    let failed = |detail: &str| format!("the key {file} cannot be used: {detail}");
    let text = std::fs::read_to_string(&settings.key_file).map_err(|error| failed(&error.to_string()))?;
    let (label, document) = SecretDocument::from_pem(&text)
        .map_err(|_| failed("it is not PEM (openssl pkcs8 -topk8 makes one)"))?;
    let document = match label {
        "ENCRYPTED PRIVATE KEY" => {
            let Some(passphrase) = &settings.key_passphrase else {
                return Err(failed("it is encrypted, and no passphrase was given"));
            };
            EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
                .and_then(|encrypted| encrypted.decrypt(passphrase.reveal()))
                .map_err(|_| {
                    failed("the passphrase does not open it, or its cipher is none of AES and DES3")
                })?
        }
        _ => document,
    };
    let pair = match label {
        "RSA PRIVATE KEY" => KeyPair::from_der(document.as_bytes()),
        _ => KeyPair::from_pkcs8(document.as_bytes()),
    };
    pair.map_err(|error| failed(&format!("it is no RSA key of 2048 bits or more ({error})")))
}

/// `SHA256:` and the digest of the public key, as `DESC USER` shows it.
fn fingerprint(pair: &KeyPair) -> String {
    let components = PublicKeyComponents::<Vec<u8>>::from(pair.public());
    let key = der(0x30, &[integer(&components.n), integer(&components.e)].concat());
    // SubjectPublicKeyInfo of rsaEncryption (RFC 8017, A.1).
    let algorithm = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let bits = der(0x03, &[&[0][..], &key].concat());
    let public = der(0x30, &[&algorithm[..], &bits].concat());
    format!("SHA256:{}", STANDARD.encode(Sha256::digest(public)))
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let sign = bytes.first().is_some_and(|first| *first >= 0x80);
    der(0x02, &[if sign { &[0][..] } else { &[] }, bytes].concat())
}

/// A value in DER: its tag, length and bytes.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let length = &length[value.len().leading_zeros() as usize / 8..];
    let mut out = vec![tag];
    match value.len() {
        0..0x80 => out.push(value.len() as u8),
        _ => {
            out.push(0x80 | length.len() as u8);
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Secret;

    fn settings(file: &str, passphrase: Option<&str>) -> SnowflakeSettings {
        let key = format!("{}/../tests/support/keys/{file}", env!("CARGO_MANIFEST_DIR"));
        let mut settings =
            SnowflakeSettings::new("xy1.eu-west-2.privatelink".into(), "svc".into(), key.into());
        settings.key_passphrase = passphrase.map(|text| Secret::new(text.into()));
        settings
    }

    /// Made with `openssl rsa -pubout -outform DER | openssl dgst -sha256 -binary | base64`.
    const FINGERPRINT: &str = include_str!("../../../tests/support/keys/fingerprint.txt");

    #[test]
    fn a_token_names_account_user_and_key_and_the_key_may_be_encrypted() {
        for (file, passphrase) in [
            ("plain.p8", None),
            ("aes.p8", Some("correct horse")),
            ("des3.p8", Some("correct horse")),
            ("pkcs1.pem", None),
        ] {
            let token =
                token(&settings(file, passphrase), Timestamp::from_ms(1_790_000_000_000)).expect(file);
            let claims = token.split('.').nth(1).expect("claims");
            let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
            let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
            assert_eq!(claims["sub"], "XY1.SVC");
            assert_eq!(
                claims["iss"],
                format!("XY1.SVC.SHA256:{}", FINGERPRINT.trim()),
                "{file}"
            );
            assert_eq!(claims["exp"].as_i64(), Some(1_790_003_300));
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_is_named_and_its_passphrase_is_not() {
        for (file, passphrase, says) in [
            ("aes.p8", None, "no passphrase"),
            ("aes.p8", Some("s3cret"), "does not open"),
            ("fingerprint.txt", None, "not PEM"),
            ("absent.p8", None, "absent.p8"),
        ] {
            let settings = settings(file, passphrase);
            let refused = token(&settings, Timestamp::from_ms(0)).expect_err(file);
            assert!(refused.contains(says) && !refused.contains("s3cret"), "{refused}");
            assert!(!format!("{settings:?}").contains("s3cret"));
        }
    }
}
