"""A Sigstore service of one's own: a certificate authority, a log of certificates, a log of signatures."""

import base64
import datetime as dt
import hashlib
import json
import struct
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tidewaiter.signing import bundle, dsse

ISSUER = ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
OLD_ISSUER = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_SCTS = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_SHA256 = ec.ECDSA(hashes.SHA256())
_ORIGIN = "log.example"


class LittleSigstore:
    """Issues certificates and logs signatures for whatever identity it is told."""

    def __init__(self, now: dt.datetime) -> None:
        self._now = now
        self._ca, self._certificates, self._log = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "little")])
        self._root = (
            x509.CertificateBuilder(name, name, self._ca.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=365))
            .not_valid_after(now + dt.timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(key_cert_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._ca.public_key()), critical=False)
            .sign(self._ca, hashes.SHA256())
        )

    def trusted_root(self) -> bytes:
        """Its `trusted_root.json`."""
        valid = {"start": (self._now - dt.timedelta(days=365)).strftime("%Y-%m-%dT%H:%M:%SZ")}
        authority = {
            "subject": {"organization": "little", "commonName": "little"},
            "uri": "https://ca.example",
            "certChain": {"certificates": [{"rawBytes": _b64(self._root.public_bytes(serialization.Encoding.DER))}]},
            "validFor": valid,
        }
        logs = [
            {
                "baseUrl": f"https://{_ORIGIN}",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": _b64(_der(key)),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": valid,
                },
                "logId": {"keyId": _b64(_id(key))},
            }
            for key in (self._log, self._certificates)
        ]
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": logs[:1],
            "certificateAuthorities": [authority],
            "ctlogs": logs[1:],
        }
        return json.dumps(document).encode()

    def sign(
        self,
        body: bytes,
        names: Sequence[x509.GeneralName],
        issuers: Sequence[x509.UnrecognizedExtension],
        *,
        issued: dt.datetime,
        logged: dt.datetime,
        promise: bool = True,
    ) -> bytes:
        """The bundle of the statement `body`, signed with a certificate of ten minutes; times as stated.

        Without `promise` nobody states when the log took it in.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(key.public_key(), names, issuers, issued)
        signature = key.sign(dsse.pae(dsse.IN_TOTO, body), _SHA256)
        envelope = {
            "payload": _b64(body),
            "payloadType": dsse.IN_TOTO,
            "signatures": [{"sig": _b64(signature)}],
        }
        document = {
            "mediaType": bundle.MEDIA_TYPE,
            "verificationMaterial": {
                "certificate": {"rawBytes": _b64(certificate.public_bytes(serialization.Encoding.DER))},
                "tlogEntries": [self._entry(signature, body, certificate, logged, promise=promise)],
            },
            "dsseEnvelope": envelope,
        }
        return json.dumps(document).encode()

    def _issue(
        self,
        public: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        issuers: Sequence[x509.UnrecognizedExtension],
        issued: dt.datetime,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder(self._root.subject, x509.Name([]), public, x509.random_serial_number())
            .not_valid_before(issued)
            .not_valid_after(issued + dt.timedelta(minutes=10))
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
        )
        for extension in issuers:
            builder = builder.add_extension(extension, critical=False)
        # What the log of certificates signs is the certificate without the log's own word.
        draft = builder.add_extension(_scts(b""), critical=False).sign(self._ca, hashes.SHA256())
        tbs = draft.tbs_precertificate_bytes
        moment = struct.pack("!Q", int(issued.timestamp() * 1000))
        signed = (
            b"\x00\x00" + moment + b"\x00\x01" + _id(self._ca) + struct.pack("!I", len(tbs))[1:] + tbs + b"\x00\x00"
        )
        signature = self._certificates.sign(signed, _SHA256)
        sct = b"\x00" + _id(self._certificates) + moment + b"\x00\x00\x04\x03" + _sized(signature)
        return builder.add_extension(_scts(sct), critical=False).sign(self._ca, hashes.SHA256())

    def _entry(
        self,
        signature: bytes,
        body: bytes,
        certificate: x509.Certificate,
        logged: dt.datetime,
        *,
        promise: bool,
    ) -> dict[str, object]:
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        canonical = json.dumps(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": "00" * 32},
                    "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(body).hexdigest()},
                    "signatures": [{"signature": _b64(signature), "verifier": _b64(pem)}],
                },
            },
            separators=(",", ":"),
        ).encode()
        root = hashlib.sha256(b"\x00" + canonical).digest()
        note = f"{_ORIGIN}\n1\n{_b64(root)}\n"
        noted = _b64(_id(self._log)[:4] + self._log.sign(note.encode(), _SHA256))
        entry: dict[str, object] = {
            "logIndex": "0",
            "logId": {"keyId": _b64(_id(self._log))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n\u2014 {_ORIGIN} {noted}\n"},
            },
            "canonicalizedBody": _b64(canonical),
        }
        if promise:
            stated = {
                "body": _b64(canonical),
                "integratedTime": int(logged.timestamp()),
                "logID": _id(self._log).hex(),
                "logIndex": 0,
            }
            promised = self._log.sign(json.dumps(stated, separators=(",", ":")).encode(), _SHA256)
            entry["integratedTime"] = str(stated["integratedTime"])
            entry["inclusionPromise"] = {"signedEntryTimestamp": _b64(promised)}
        return entry


def issuer(url: str, *, old: bool = False) -> x509.UnrecognizedExtension:
    """The extension that names the OIDC issuer, of either make."""
    return x509.UnrecognizedExtension(
        OLD_ISSUER if old else ISSUER, url.encode() if old else _tagged(0x0C, url.encode())
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _scts(sct: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(_SCTS, _tagged(0x04, _sized(_sized(sct))))


def _sized(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _tagged(tag: int, data: bytes) -> bytes:
    """DER of less than 256 bytes."""
    return bytes([tag, len(data)] if len(data) < 128 else [tag, 0x81, len(data)]) + data


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_der(key)).digest()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
