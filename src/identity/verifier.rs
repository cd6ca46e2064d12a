//! HMAC for the token library, from the crates that callbacks already use. The library's own
//! backends would bring RSA and elliptic curves, which the configuration cannot use.

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwkUtils, JwtSigner, JwtVerifier};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use sha2::{Sha256, Sha384, Sha512};

/// Must be installed before a token is verified.
pub(super) static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    jwk_utils: JwkUtils::new_unimplemented(),
};

/// A keyed MAC of one algorithm.
struct Keyed<M>(M, Algorithm);

impl<M: Mac + Clone> Verifier<Vec<u8>> for Keyed<M> {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> core::result::Result<(), Error> {
        // Constant time: an attacker must not be able to measure how much of a guess is right.
        self.0.clone().chain_update(message).verify_slice(signature).map_err(|_| Error::new())
    }
}

impl<M: Mac + Clone> JwtVerifier for Keyed<M> {
    fn algorithm(&self) -> Algorithm {
        self.1
    }
}

// RFC 7518 §3.2.
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let secret = key.try_get_hmac_secret()?;
    match algorithm {
        Algorithm::HS256 => keyed::<Hmac<Sha256>>(secret, *algorithm),
        Algorithm::HS384 => keyed::<Hmac<Sha384>>(secret, *algorithm),
        Algorithm::HS512 => keyed::<Hmac<Sha512>>(secret, *algorithm),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

fn keyed<M>(secret: &[u8], algorithm: Algorithm) -> Result<Box<dyn JwtVerifier>>
where
    M: Mac + KeyInit + Clone + 'static,
{
    let mac = <M as KeyInit>::new_from_slice(secret).map_err(|_| ErrorKind::InvalidKeyFormat)?;
    Ok(Box::new(Keyed(mac, algorithm)))
}

/// This server does not sign tokens.
fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::InvalidAlgorithm.into())
}
