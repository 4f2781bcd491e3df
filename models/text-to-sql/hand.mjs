// Questions written by hand, as somebody asks them who has read only the card. Their tables are of domains that the
// generator lacks, to see whether the model generalises beyond it. They are never trained on. But the generator got some of
// their kinds of phrasing after they were written, so they are no clean test.
//   node models/text-to-sql/hand.mjs --out hand.jsonl
import fs from "node:fs";
import { parseArgs } from "node:util";
import { prompt } from "./generate.mjs";

// The tables of a domain, then a question and its SQL in two lines.
const DOMAINS = `
table seedlings(id, variety, height_cm, planted_on, tray)
table gardeners(gardener_id, name, shift, hourly_pay)
How many seedlings are there?
  SELECT count(*) FROM seedlings
List the variety and tray of all seedlings.
  SELECT variety, tray FROM seedlings
What is the average hourly pay of the gardeners?
  SELECT avg(hourly_pay) FROM gardeners
Show all gardeners on the shift 'night'.
  SELECT * FROM gardeners WHERE shift = 'night'
Which seedlings have a height cm greater than 15?
  SELECT * FROM seedlings WHERE height_cm > 15
Give me the names of gardeners whose hourly pay is at least 20.
  SELECT name FROM gardeners WHERE hourly_pay >= 20
How many seedlings are there per variety?
  SELECT variety, count(*) FROM seedlings GROUP BY variety
What is the variety of the seedling with the highest height cm?
  SELECT variety FROM seedlings ORDER BY height_cm DESC LIMIT 1

table games(game_id, white, black, opening, moves, year)
Count the games with more than 60 moves.
  SELECT count(*) FROM games WHERE moves > 60
List the distinct openings.
  SELECT DISTINCT opening FROM games
What is the longest number of moves of all games?
  SELECT max(moves) FROM games
Show the white and black of games where opening is 'Sicilian'.
  SELECT white, black FROM games WHERE opening = 'Sicilian'
How many games are there for each opening?
  SELECT opening, count(*) FROM games GROUP BY opening
Which games have fewer than 20 moves and year after 1990?
  SELECT * FROM games WHERE moves < 20 AND year > 1990
Show all games sorted by year.
  SELECT * FROM games ORDER BY year
What is the average number of moves for each year?
  SELECT year, avg(moves) FROM games GROUP BY year

table episodes(id, title, host, length_minutes, downloads, season)
table sponsors(id, company, fee, country)
What are the titles of the episodes hosted by host 'Mara'?
  SELECT title FROM episodes WHERE host = 'Mara'
What is the total fee of all sponsors?
  SELECT sum(fee) FROM sponsors
Show the title of the episode with the most downloads.
  SELECT title FROM episodes ORDER BY downloads DESC LIMIT 1
List the top 5 episodes by downloads.
  SELECT * FROM episodes ORDER BY downloads DESC LIMIT 5
How many sponsors are from Canada?
  SELECT count(*) FROM sponsors WHERE country = 'Canada'
What are the minimum and maximum length minutes of episodes?
  SELECT min(length_minutes), max(length_minutes) FROM episodes
Show the company of sponsors with a fee between 100 and 500.
  SELECT company FROM sponsors WHERE fee BETWEEN 100 AND 500
Which hosts have more than 3 episodes?
  SELECT host FROM episodes GROUP BY host HAVING count(*) > 3

table samples(sample_id, substance, ph, volume, status, technician)
Find the substance of all samples with ph below 7.
  SELECT substance FROM samples WHERE ph < 7
How many samples have the status 'frozen'?
  SELECT count(*) FROM samples WHERE status = 'frozen'
How many different substances are there in the samples?
  SELECT count(DISTINCT substance) FROM samples
What is the total volume of samples for each technician?
  SELECT technician, sum(volume) FROM samples GROUP BY technician
List samples whose technician is not Ruiz.
  SELECT * FROM samples WHERE technician != 'Ruiz'
Show the sample id and ph of samples ordered by ph descending.
  SELECT sample_id, ph FROM samples ORDER BY ph DESC
Show me everything about the samples.
  SELECT * FROM samples

table kegs(keg_id, beer_name, liters, filled_on, location)
Which kegs are in the location Cellar?
  SELECT * FROM kegs WHERE location = 'Cellar'
How many kegs have more than 30 liters?
  SELECT count(*) FROM kegs WHERE liters > 30
List the beer name of kegs filled on after 2023-05-01.
  SELECT beer_name FROM kegs WHERE filled_on > '2023-05-01'
What is the sum of liters of all kegs?
  SELECT sum(liters) FROM kegs
Show the beer names that contain 'Pale'.
  SELECT beer_name FROM kegs WHERE beer_name LIKE '%Pale%'
For each location, how many kegs are there?
  SELECT location, count(*) FROM kegs GROUP BY location

table climbs(id, wall, grade, setter, attempts, height)
What is the most common grade of climbs?
  SELECT grade FROM climbs GROUP BY grade ORDER BY count(*) DESC LIMIT 1
Which wall has the most climbs?
  SELECT wall FROM climbs GROUP BY wall ORDER BY count(*) DESC LIMIT 1
Show the wall and setter of climbs with attempts over 100.
  SELECT wall, setter FROM climbs WHERE attempts > 100
What is the average height of climbs with grade 'V5'?
  SELECT avg(height) FROM climbs WHERE grade = 'V5'
List the 3 climbs with the lowest height.
  SELECT * FROM climbs ORDER BY height LIMIT 3
How many climbs are there whose setter is Lena or grade is 'V2'?
  SELECT count(*) FROM climbs WHERE setter = 'Lena' OR grade = 'V2'

table musicians(id, name, instrument, salary, country)
table rehearsals(id, hall, start_time, duration)
List the names of musicians who play instrument 'cello'.
  SELECT name FROM musicians WHERE instrument = 'cello'
What is the highest salary of musicians from Japan?
  SELECT max(salary) FROM musicians WHERE country = 'Japan'
Show all rehearsals in hall 'B'.
  SELECT * FROM rehearsals WHERE hall = 'B'
How many musicians earn a salary of more than 4000?
  SELECT count(*) FROM musicians WHERE salary > 4000
List instruments and the number of musicians for each instrument.
  SELECT instrument, count(*) FROM musicians GROUP BY instrument
Give the name and salary of musicians, ordered by salary from highest to lowest.
  SELECT name, salary FROM musicians ORDER BY salary DESC
Show the first 10 rehearsals.
  SELECT * FROM rehearsals LIMIT 10

table comets(name, discovered_year, period, discoverer, magnitude)
Which comets were discovered after 1900?
  SELECT * FROM comets WHERE discovered_year > 1900
What is the name of the comet with the smallest period?
  SELECT name FROM comets ORDER BY period LIMIT 1
How many comets does discoverer 'Halley' have?
  SELECT count(*) FROM comets WHERE discoverer = 'Halley'
List the names of comets with a magnitude of 5 or more.
  SELECT name FROM comets WHERE magnitude >= 5

table fabrics(fabric_id, material, color, price, meters_left, supplier)
Show the material of every fabric whose color is blue.
  SELECT material FROM fabrics WHERE color = 'blue'
What is the cheapest price of the fabrics?
  SELECT min(price) FROM fabrics
List unique suppliers of fabrics.
  SELECT DISTINCT supplier FROM fabrics
Find fabrics with price under 12.5 and color 'red'.
  SELECT * FROM fabrics WHERE price < 12.5 AND color = 'red'
What is the average price per material?
  SELECT material, avg(price) FROM fabrics GROUP BY material

table crossings(id, harbor, vessel, passengers, delay, fare)
Which crossing has the highest delay?
  SELECT * FROM crossings ORDER BY delay DESC LIMIT 1
Give the harbor and fare of crossings with no delay value.
  SELECT harbor, fare FROM crossings WHERE delay IS NULL
What is the total number of passengers per vessel?
  SELECT vessel, sum(passengers) FROM crossings GROUP BY vessel
Count crossings whose harbor starts with 'Port'.
  SELECT count(*) FROM crossings WHERE harbor LIKE 'Port%'
List the vessel of the 4 crossings with the highest fare.
  SELECT vessel FROM crossings ORDER BY fare DESC LIMIT 4
`;

const { values } = parseArgs({ options: { out: { type: "string" } } });
if (!values.out) throw new Error("Expected --out FILE");
const examples = DOMAINS.trim()
  .split("\n\n")
  .flatMap((domain) => {
    const tables = domain.match(/^table .*\n/gm).join("");
    const questions = [...domain.matchAll(/^(.*)\n {2}(.*)$/gm)];
    return questions.map(([, question, answer]) => ({ prompt: prompt(tables, question), answer }));
  });
fs.writeFileSync(values.out, examples.map((example) => `${JSON.stringify(example)}\n`).join(""));
