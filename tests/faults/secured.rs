//! TLS and SASL against the real broker: who may come in does, who may not is told so, and no secret is shown.

use std::path::Path;
use std::process::{Command, Stdio};

use negstream::config::KafkaConfig;

use crate::group::Group;
use crate::kafka_harness::Broker;
use crate::support::{Place, run, set};

const SECRET: &str = "s3cret-of-alice";

/// A broker whose only listener for clients is TLS with SASL; its certificate, for clients.
fn secured(place: &Place) -> Option<Broker> {
    let store = place.path("broker.p12");
    let keytool = |arguments: &[&str]| {
        let mut command = Command::new("keytool");
        command.args(arguments).args(["-alias", "broker", "-storepass", "changeit", "-keystore"]).arg(&store);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let names = "SAN=dns:localhost,ip:127.0.0.1";
    if !keytool(&["-genkeypair", "-keyalg", "RSA", "-storetype", "PKCS12", "-dname", "CN=127.0.0.1", "-ext", names]) {
        return crate::support::left_out("kafka", "keytool, which belongs to java, makes no certificate");
    }
    assert!(keytool(&["-exportcert", "-rfc", "-file", place.path("broker.pem").to_str().unwrap()]));
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule";
    Broker::start_formatted(
        &format!(
            "listener.security.protocol.map=PLAINTEXT:SASL_SSL,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=PLAINTEXT\n\
             ssl.keystore.location={store}\nssl.keystore.password=changeit\nssl.keystore.type=PKCS12\n\
             ssl.truststore.location={store}\nssl.truststore.password=changeit\nssl.truststore.type=PKCS12\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             sasl.mechanism.inter.broker.protocol=PLAIN\n\
             listener.name.plaintext.plain.sasl.jaas.config={plain} required username=\"alice\" password=\"{SECRET}\" \
             user_alice=\"{SECRET}\";\n\
             listener.name.plaintext.scram-sha-256.sasl.jaas.config={scram} required;\n\
             listener.name.plaintext.scram-sha-512.sasl.jaas.config={scram} required;\n",
            store = store.display()
        ),
        &[
            "--add-scram",
            &format!("SCRAM-SHA-256=[name=alice,password={SECRET}]"),
            "--add-scram",
            &format!("SCRAM-SHA-512=[name=alice,password={SECRET}]"),
        ],
    )
}

fn properties(mechanism: &str, password: &str, certificate: &Path) -> [(&'static str, String); 5] {
    [
        ("security.protocol", "sasl_ssl".to_owned()),
        ("ssl.ca.location", certificate.display().to_string()),
        ("sasl.mechanism", mechanism.to_owned()),
        ("sasl.username", "alice".to_owned()),
        ("sasl.password", password.to_owned()),
    ]
}

/// `run` to the end, with properties in the configuration and the password in the environment.
fn read(group: &Group, worker: &str, properties: &[(&str, String)]) -> crate::support::Said {
    let mut command = group.command(worker, &["--until-end", "--json"]);
    for (name, value) in properties {
        match *name {
            "sasl.password" => {
                command.env("NEGSTREAM__KAFKA__PROPERTIES", format!("{{\"sasl.password\"=\"{value}\"}}"));
            }
            name => set(&mut command, &[&format!("kafka.properties.{name}={value}")]),
        }
    }
    run(&mut command)
}

#[test]
fn tls_and_sasl_admit_valid_credentials_and_name_invalid_ones() {
    let place = Place::new();
    let Some(broker) = secured(&place) else { return };
    let certificate = place.path("broker.pem");
    let with = |config: &mut KafkaConfig, mechanism: &str| {
        let all = properties(mechanism, SECRET, &certificate);
        config.properties = all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    };
    let mut group = Group::configured(&broker, "secured", 2, |config| with(config, "PLAIN"));
    group.produce(300);
    let report = read(&group, "plain", &properties("PLAIN", SECRET, &certificate)).ended(0).json();
    assert_eq!(report["events"]["used"], 300, "{report}");
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut again = Group::configured(&broker, mechanism, 2, |config| with(config, mechanism));
        again.produce(200);
        let said = read(&again, "a", &properties(mechanism, SECRET, &certificate)).ended(0);
        assert_eq!(said.json()["events"]["used"], 200);
        assert!(!said.err.contains(SECRET) && !said.out.contains(SECRET));
        again.assert_each_once(&["a"]);
    }

    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let said = read(&group, "wrong", &properties(mechanism, "wr0ng-one", &certificate)).ended(3);
        assert!(said.err.contains("uthentication failed"), "{}", said.err);
        assert!(!said.err.contains("wr0ng-one"), "{}", said.err);
    }
    // A broker whose certificate nobody vouches for.
    let mut unknown = properties("PLAIN", SECRET, &certificate).to_vec();
    unknown.retain(|(name, _)| *name != "ssl.ca.location");
    let said = read(&group, "unknown", &unknown).ended(3);
    assert!(said.err.contains("certificate") && !said.err.contains(SECRET), "{}", said.err);
    assert!(group.place.checkpoints("wrong").is_empty() && group.place.checkpoints("unknown").is_empty());
}
