-- An alert store as BeepGPT 0.1.0 wrote it (schema version 3): every kind of preference, a DM that was sent and one in flight.
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE alert (
        id TEXT PRIMARY KEY, user TEXT NOT NULL, kind TEXT NOT NULL, way TEXT NOT NULL, reason TEXT NOT NULL, state TEXT NOT NULL,
        prediction TEXT NOT NULL, conversation TEXT NOT NULL, channel TEXT NOT NULL, ts INTEGER NOT NULL, prompt_ts INTEGER NOT NULL,
        model TEXT NOT NULL, p REAL NOT NULL, why TEXT NOT NULL, excerpt TEXT NOT NULL, made_at INTEGER NOT NULL, permalink TEXT,
        letter TEXT, handed_on INTEGER NOT NULL DEFAULT 0, answered INTEGER, feedback TEXT
    , released_at INTEGER, excerpt_at INTEGER, edited_at INTEGER) STRICT;
INSERT INTO "alert" VALUES('96f76052a50c39ffdc4681f5a881f215','bo','answer','direct','likely','cleared','C1-1700049600000000','C1:1700049600.000000:session','C1',1700049600000000,1700049600000000,'m',0.8,'80% likely that you answer: the likeliest of 1 people','Is the build red?',1700049601000000,'https://acme.slack.com/archives/C1/p1700049600000000','96f76052a50c39ffdc4681f5a881f215',0,1,'good',1700049600500000,NULL,NULL);
INSERT INTO "alert" VALUES('30618075970351e0c836f7045fdc2d84','di','answer','direct','likely','cleared','C1-1700049601000000','C1:1700049600.000000:session','C1',1700049601000000,1700049601000000,'m',0.8,'80% likely that you answer: the likeliest of 1 people','Is the build red?',1700049602000000,'https://acme.slack.com/archives/C1/p1700049600000000','30618075970351e0c836f7045fdc2d84',0,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE alert_message (channel TEXT, ts INTEGER, alert TEXT, PRIMARY KEY (channel, ts, alert)) STRICT, WITHOUT ROWID;
INSERT INTO "alert_message" VALUES('C1',1700049600000000,'96f76052a50c39ffdc4681f5a881f215');
INSERT INTO "alert_message" VALUES('C1',1700049601000000,'30618075970351e0c836f7045fdc2d84');
CREATE TABLE counted (name TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "counted" VALUES('answer:answered',1);
INSERT INTO "counted" VALUES('answer:direct',2);
INSERT INTO "counted" VALUES('feedback:good',1);
INSERT INTO "counted" VALUES('interactions',12);
INSERT INTO "counted" VALUES('letters_sent',1);
INSERT INTO "counted" VALUES('outcomes',1);
INSERT INTO "counted" VALUES('predictions',2);
INSERT INTO "counted" VALUES('told:slack',1);
CREATE TABLE deleted (channel TEXT, ts INTEGER, at INTEGER NOT NULL, PRIMARY KEY (channel, ts)) STRICT, WITHOUT ROWID;
CREATE TABLE letter (
        id TEXT PRIMARY KEY, user TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, dm TEXT, dm_ts TEXT, tried_at INTEGER,
        tries INTEGER NOT NULL DEFAULT 0, chore TEXT, made_at INTEGER NOT NULL
    ) STRICT;
INSERT INTO "letter" VALUES('96f76052a50c39ffdc4681f5a881f215','bo','alert','sent','Dbo','1700049603.000001',1700049603000000,1,NULL,1700049603000000);
INSERT INTO "letter" VALUES('30618075970351e0c836f7045fdc2d84','di','alert','sending','Ddi',NULL,1700049603000000,1,NULL,1700049603000000);
CREATE TABLE muted (user TEXT, channel TEXT, PRIMARY KEY (user, channel)) STRICT, WITHOUT ROWID;
INSERT INTO "muted" VALUES('bo','C2');
INSERT INTO "muted" VALUES('bo','C3');
CREATE TABLE person (
        user TEXT PRIMARY KEY, opted_in INTEGER, threshold REAL, per_hour INTEGER, quiet_from INTEGER, quiet_to INTEGER, zone TEXT,
        low TEXT, home_opened INTEGER NOT NULL DEFAULT 0, home_dirty INTEGER NOT NULL DEFAULT 0, digested TEXT NOT NULL DEFAULT ''
    ) STRICT;
INSERT INTO "person" VALUES('bo',1,0.7,5,1380,390,'Europe/Berlin','digest',1,1,'');
INSERT INTO "person" VALUES('cy',0,NULL,NULL,NULL,NULL,NULL,NULL,0,1,'');
INSERT INTO "person" VALUES('di',1,NULL,NULL,NULL,NULL,NULL,NULL,0,1,'');
CREATE TABLE place (source TEXT, part TEXT, state TEXT NOT NULL, PRIMARY KEY (source, part)) STRICT, WITHOUT ROWID;
INSERT INTO "place" VALUES('predictions:kafka:slack.predictions','0','[7, 7, null]');
CREATE TABLE session_of (thread TEXT PRIMARY KEY, session TEXT NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "session_of" VALUES('C1:1700049600.000000:thread','C1:1700049600.000000:session',1700049600000000);
INSERT INTO "session_of" VALUES('C1:1700049601.000000:thread','C1:1700049600.000000:session',1700049601000000);
CREATE TABLE speaker (conversation TEXT, user TEXT, at INTEGER NOT NULL, PRIMARY KEY (conversation, user)) STRICT, WITHOUT ROWID;
INSERT INTO "speaker" VALUES('C1:1700049600.000000:session','ana',1700049601000000);
CREATE TABLE told (user TEXT, key TEXT, at INTEGER NOT NULL, PRIMARY KEY (user, key)) STRICT, WITHOUT ROWID;
INSERT INTO "told" VALUES('bo','C1:1700049600.000000:session',1700049601000000);
INSERT INTO "told" VALUES('bo','C1:1700049600.000000:thread',1700049601000000);
INSERT INTO "told" VALUES('bo','C1:1700049600000000',1700049601000000);
INSERT INTO "told" VALUES('di','C1:1700049600.000000:session',1700049602000000);
INSERT INTO "told" VALUES('di','C1:1700049601.000000:thread',1700049602000000);
INSERT INTO "told" VALUES('di','C1:1700049601000000',1700049602000000);
CREATE TABLE topic (user TEXT, words TEXT, PRIMARY KEY (user, words)) STRICT, WITHOUT ROWID;
INSERT INTO "topic" VALUES('bo','Kafka upgrades');
INSERT INTO "topic" VALUES('bo','lunch');
CREATE TABLE word (bucket INTEGER PRIMARY KEY, count INTEGER NOT NULL) STRICT;
INSERT INTO "word" VALUES(-1,2);
INSERT INTO "word" VALUES(24463,2);
INSERT INTO "word" VALUES(28134,2);
INSERT INTO "word" VALUES(58007,2);
INSERT INTO "word" VALUES(62171,2);
CREATE INDEX alert_of_user ON alert (user, made_at);
CREATE INDEX alert_by_state ON alert (state) WHERE state = 'due';
CREATE INDEX alert_of_letter ON alert (letter);
CREATE INDEX alert_of_prediction ON alert (prediction);
CREATE INDEX alert_to_hand_on ON alert (handed_on) WHERE handed_on < 3;
CREATE INDEX letter_by_state ON letter (state) WHERE state IN ('due', 'sending');
CREATE INDEX letter_with_chore ON letter (chore) WHERE chore IS NOT NULL;
COMMIT;
